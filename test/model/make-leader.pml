/*
 * Leader change: two releasers, each with a term of its own and an own verifier beside it, at once or one after the other.
 * Which of them a new session meets is the bus's choice; it follows the one that Evidence over its own nonce binds.
 *
 * Sessions end and begin as the attacker likes. The releaser of term 1 may die at any moment.
 */
#define RELEASERS 2
#ifdef PROGRESS
#define EPOCHS 4
#define SESSIONS 3
#define REQUESTS 2
#define SEQUENCES 6
#define KEPT_REQUESTS 1
#define KEPT_SEQUENCES 4
#define KEPT_EPOCHS 3
#else
#define EPOCHS 2
#define SESSIONS 2
#define REQUESTS 1
#define SEQUENCES 5
#define KEPT_REQUESTS 0
#define KEPT_SEQUENCES 0
#define KEPT_EPOCHS 0
#endif
#ifndef RENEWALS_A
#define RENEWALS_A 1
#endif
#ifndef RENEWALS_B
#define RENEWALS_B 1
#endif

#include "make.h"
#include "edge.h"

/* Always 0 between steps. */
byte q, s;

/* By releaser and node: the sessions that follow it. */
byte of_releaser[RELEASERS * 2];

bool dead;                      /* the releaser of term 1 */
#define alive(r) ((r) == 1 || !dead)

/* The term that the session's Evidence binds, and the least that the node follows. */
byte bound[2], least[2];
#define IN_TWO_TO_THE_53 9

#ifdef EQUAL_TERMS
#define term(r) 1
#else
#define term(r) ((r) + 1)
#endif

inline follow(x, r) {
  follows[x] = r;
  holds(rising, term(r) >= least[x]);
  least[x] = term(r)
}

inline begin_session(x, r) {
  own_session[x]++;
  newest_request[x] = 0; taken[x] = 0; gone[x] = 0;
  bound[x] = term(r);
  of_releaser[r * 2 + x] = with(of_releaser[r * 2 + x], own_session[x]);
  follow(x, r)
}

#ifdef FLOOR_FROM_HELD
/* The node remembers only the terms of what is still in its kernel. */
#define may_follow(x, r) ((r) == 1 || !held_n(x, 1))
#else
#define may_follow(x, r) (term(r) >= least[x])
#endif

proctype Node(byte x) {
#define answers(q) (own_session[x] && (q) <= SEQUENCES && is_answer(x, q) && (!calm || (q) == sequence[at(follows[x], x)]) && \
                    sound(x, follows[x], message(x, q)))
#define first_sessions(x) (own_session[x] <= (x == A -> RENEWALS_A : RENEWALS_B))
  bool asked_again, anew;
end:
  do
  :: d_step { own_session[x] && newest_request[x] < spare(REQUESTS, KEPT_REQUESTS) && (!calm || (anew && !asked_again)) ->
      asked_again = calm;
      ask(x) }
  :: atomic { choose8(q, answers); d_step { believe(x, follows[x], q); tidy(x); q = 0 } }
  :: d_step { !calm && first_sessions(x) && alive(0) && may_follow(x, 0) -> begin_session(x, 0) }
  :: d_step { !calm && first_sessions(x) && may_follow(x, 1) -> begin_session(x, 1) }
#ifdef TERM_FROM_KV
  /* The bus says who leads. */
  :: d_step { !calm && own_session[x] && follows[x] == 0 ->
#ifdef PROGRESS
      least[x] = IN_TWO_TO_THE_53
#else
      follow(x, 1);
      holds(bound_term, bound[x] == term(follows[x]))
#endif
      }
#endif
#ifdef PROGRESS
  /* Unanswered, it begins anew, and meets the one that is left. */
  :: d_step { calm && !anew && may_follow(x, 1) -> anew = true; own_session[x] = SESSIONS - 1; begin_session(x, 1) }
#endif
  od
}

proctype Releaser(byte r) {
#define newest_only(x, s, q) (!calm || ((s) == own_session[x] && (q) == request_of(x, s) && kept_session(s)))
#define kept_session(s) ((s) == SESSIONS)
/* A result of the verifier beside it, with a beacon of its own: of a session that follows it. */
#define request_fits(x, s, q) \
  (alive(r) && (s) <= SESSIONS && (q) <= request_of(x, s) && has(of_releaser[r * 2 + x], s) && \
   ((s) > session[at(r, x)] || ((s) == session[at(r, x)] && (q) > counter[at(r, x)])) && newest_only(x, s, q))
#define session_of_a(s) (request_fits(A, s, 1) || (REQUESTS > 1 && request_fits(A, s, 2)))
#define session_of_b(s) (request_fits(B, s, 1) || (REQUESTS > 1 && request_fits(B, s, 2)))
#define request_a(q) ((q) <= REQUESTS && request_fits(A, s, q))
#define request_b(q) ((q) <= REQUESTS && request_fits(B, s, q))
#define ack_fits(x, q) \
  (alive(r) && session[at(r, x)] && (q) <= SEQUENCES && said(r, x, q) && (q) >= acknowledged[at(r, x)] && \
   (!calm || (session[at(r, x)] == own_session[x] && (q) == taken[x] && (q) > acknowledged[at(r, x)])))
#define ack_a(q) ack_fits(A, q)
#define ack_b(q) ack_fits(B, q)
end:
  do
  :: atomic { choose3(s, session_of_a); choose3(q, request_a); d_step { pull(r, A, s, q); q = 0; s = 0 } }
  :: atomic { choose3(s, session_of_b); choose3(q, request_b); d_step { pull(r, B, s, q); q = 0; s = 0 } }
  :: atomic { choose8(q, ack_a); d_step { take_ack(r, A, q); q = 0 } }
  :: atomic { choose8(q, ack_b); d_step { take_ack(r, B, q); q = 0 } }
  :: d_step { alive(r) && retiring[r] && switched[r] == both -> grace_over(r) }
  /* Nothing of it is left, but what it has sent. */
  :: d_step { r == 0 && !calm && !dead ->
      dead = true;
      pending[0] = 0; current[0] = 0; retiring[0] = 0; rotating[0] = 0; confirmed[0] = 0; switched[0] = 0; up[0] = 0;
      counter[at(0, A)] = 0; counter[at(0, B)] = 0; acknowledged[at(0, A)] = 0; acknowledged[at(0, B)] = 0 }
  od
}

init {
  atomic {
    run Node(A); run Node(B); run Releaser(0); run Releaser(1);
#ifdef PROGRESS
    run Calm()
#endif
  }
}

#ifdef PROGRESS
proctype Calm() {
end:
  atomic { dead -> calm = true }
}

ltl progress { [] (calm -> <> whole) }
#endif
