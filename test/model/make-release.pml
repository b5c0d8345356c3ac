/*
 * Steps 5 to 7 of MAKE over time, with one session of each node: who gets to know a release secret, who may send when, and
 * that a key ends with its lease, whatever the bus withholds. B may be revoked.
 *
 * One clock for all: the leases that cross machines are durations, and clocks that run at different speeds are not modelled.
 */
#define RELEASERS 1
#define SESSIONS 1
#ifdef PROGRESS
#define REQUESTS 3
#define SEQUENCES 8
#define EPOCHS 3
#define KEPT_REQUESTS 1
#define KEPT_SEQUENCES 5
#define KEPT_EPOCHS 1
#define MOMENTS 2
#else
#define REQUESTS 2
#define SEQUENCES 5
#define EPOCHS 2
#define KEPT_REQUESTS 0
#define KEPT_SEQUENCES 0
#define KEPT_EPOCHS 0
#define MOMENTS 3
#endif
#define LEASE 2

/* What the attacker can open: releases sealed to keys that it has. It has its own, never a node's. */
byte opened;                    /* the n of release secrets */
bool impostor;                  /* the releaser believes that B's keys are the attacker's */
#define sealed(r, x) \
  if :: x == B && impostor && pending[r] -> opened = with(opened, pending[r]) :: else fi

#include "make.h"
#include "edge.h"

byte revoked_at;

/* Always 0 between steps. */
byte q;

proctype Node(byte x) {
#define answers(q) ((q) <= SEQUENCES && is_answer(x, q) && (!calm || (q) == sequence[at(0, x)]) && \
                    sound(x, 0, message(x, q)))
  bool asked_again;
#ifdef NEVER_ASKS_AGAIN
#define may_ask (!calm)
#else
#define may_ask (!calm || !asked_again)
#endif
end:
  do
  :: d_step { newest_request[x] < spare(REQUESTS - x, KEPT_REQUESTS) && may_ask && !has(revoked, x) ->
      asked_again = calm;
      ask(x); tidy(x) }
  :: atomic { choose8(q, answers);
      d_step {
        believe(x, 0, q);
        holds(secrecy, !(held[x] & opened));
        tidy(x); q = 0 } }
  od
}

proctype Releaser() {
#define request_fits(x, q) \
  ((q) <= request_of(x, 1) && (q) > counter[x] && !has(revoked, x) && (!calm || (q) == request_of(x, 1)))
#define request_a(q) request_fits(A, q)
#define request_b(q) request_fits(B, q)
#define ack_fits(x, q) \
  ((q) <= SEQUENCES && ack[slot(0, x, 1, q)] && (q) >= acknowledged[x] && !revoked && \
   (!calm || ((q) == taken[x] && (q) > acknowledged[x])))
#define ack_a(q) ack_fits(A, q)
#define ack_b(q) ack_fits(B, q)
end:
  do
  :: atomic { choose8(q, request_a); d_step { session[A] = 1; pull(0, A, 1, q); q = 0 } }
  :: atomic { choose8(q, request_b); d_step { session[B] = 1; pull(0, B, 1, q); q = 0 } }
  :: atomic { choose8(q, ack_a); d_step { take_ack(0, A, q); tidy(A); q = 0 } }
  :: atomic { choose8(q, ack_b); d_step { take_ack(0, B, q); tidy(B); q = 0 } }
#ifndef PROGRESS
  :: d_step { !revoked ->
      revoked = with(revoked, B); revoked_at = now;
      stop_edge(0); flush(0);
      up[0] = without(up[0], B) }
#endif
  od
}

/* Both sides look at their leases more often than the clock ticks. That the kernel stops at the deadline is what `usable` says. */
inline expire(x) {
  if
  :: held[x] && now >= deadline[x] ->
      excused = excused | held[x]; gone[x] = gone[x] | held[x]; held[x] = 0; in_use[x] = 0;
      deadline[x] = 0; answered[x] = 0
  :: else
  fi
}

inline lapse(x) {
  if
  :: has(up[0], x) && now >= lease_until[x] ->
      up[0] = without(up[0], x); lease_until[x] = 0;
      stop_edge(0); flush(0)
  :: else
  fi
}

proctype Clock() {
#define usable(x) (held[x] && now < deadline[x])
end:
  do
  :: d_step { !calm && now < MOMENTS ->
      now++;
      holds(lease_bound, !usable(A) || now < answered[A] + LEASE);
      holds(lease_bound, !usable(B) || now < answered[B] + LEASE);
      holds(lease_bound, !revoked || now < revoked_at + LEASE || (!usable(A) && !usable(B)));
      expire(A); expire(B); lapse(A); lapse(B) }
  od
}

/* M asks in B's place. It has B's result and its own, and signs with its own key, which a result must name. */
proctype Attacker() {
#define bs_result_names_node true
#define bs_result_names_key false
#define own_result_names_node false
#define own_result_names_key true
#ifdef RESULT_WITHOUT_KEYS
#define vouches(names_node, names_key) (names_node)
#else
#define vouches(names_node, names_key) ((names_node) && (names_key))
#endif
end:
  d_step { !calm && request_of(B, 1) && !revoked &&
           (vouches(bs_result_names_node, bs_result_names_key) || vouches(own_result_names_node, own_result_names_key)) ->
    impostor = true; session[B] = 1;
    pull(0, B, 1, counter[B] + 1) }
}

init {
  d_step { own_session[A] = 1; own_session[B] = 1 }
  atomic {
    run Node(A); run Node(B); run Releaser(); run Clock(); run Attacker();
#ifdef PROGRESS
    run Calm()
#endif
  }
}

#ifdef PROGRESS
proctype Calm() {
end:
  atomic { skip -> calm = true }
}

/* Once the attacker has stopped, both ends send under one epoch that both hold. */
ltl progress { [] (calm -> <> whole) }
#endif
