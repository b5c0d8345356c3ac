/*
 * Rotation, and ends that begin new sessions, in one term: epochs follow each other, old messages of every kind come again,
 * an end loses an epoch, and yet both ends have the same keys or none, and never send what the other cannot open.
 */
#define RELEASERS 1
#ifdef PROGRESS
#define SESSIONS 2
#define REQUESTS 2
#undef SEQUENCES
#define SEQUENCES 8
#define EPOCHS 4
#define KEPT_REQUESTS 1
#define KEPT_SEQUENCES 6
#define KEPT_EPOCHS 2
#else
#define SESSIONS 2
#define REQUESTS 1
#ifndef SEQUENCES
#define SEQUENCES 6
#endif
#define EPOCHS 3
#define KEPT_REQUESTS 0
#define KEPT_SEQUENCES 0
#define KEPT_EPOCHS 0
#endif

/* How often which end begins a new session, how often keys are rotated, how often an end loses what it holds. */
#ifndef RENEWALS_A
#define RENEWALS_A 1
#endif
#ifndef RENEWALS_B
#define RENEWALS_B 0
#endif
#ifndef ROTATIONS
#define ROTATIONS 2
#endif
#ifndef LOSSES
#define LOSSES 1
#endif

#include "make.h"
#include "edge.h"

/* Always 0 between steps. */
byte q;
byte rotations, losses;

proctype Node(byte x) {
#define answers(q) ((q) <= SEQUENCES && is_answer(x, q) && (!calm || (q) == sequence[at(0, x)]) && \
                    sound(x, 0, message(x, q)))
  bool asked_again;
end:
  do
  :: d_step { newest_request[x] < spare(REQUESTS, KEPT_REQUESTS) && (!calm || !asked_again) ->
      asked_again = calm;
      ask(x) }
  :: atomic { choose8(q, answers); d_step { believe(x, 0, q); tidy(x); q = 0 } }
  /* A new session, with new keys; what the kernel holds stays. */
  :: d_step { !calm && own_session[x] <= (x == A -> RENEWALS_A : RENEWALS_B) && request_of(x, own_session[x]) ->
      own_session[x]++; newest_request[x] = 0; taken[x] = 0; gone[x] = 0 }
  /* The kernel lost or refused an epoch. */
  :: d_step { !calm && held[x] && losses < LOSSES ->
      losses++;
      excused = excused | held[x]; gone[x] = gone[x] | held[x]; held[x] = 0; in_use[x] = 0 }
  od
}

proctype Releaser() {
#define newest_only(x, s, q) (!calm || ((s) == own_session[x] && (q) == request_of(x, s)))
#define request_fits(x, s, q) \
  ((s) <= SESSIONS && (q) <= request_of(x, s) && ((s) > session[x] || ((s) == session[x] && (q) > counter[x])) && \
   newest_only(x, s, q))
#define old_request(x, q) ((q) <= REQUESTS && request_fits(x, 1, q))
#define new_request(x, q) ((q) <= REQUESTS && request_fits(x, 2, q))
#define old_a(q) old_request(A, q)
#define new_a(q) new_request(A, q)
#define old_b(q) old_request(B, q)
#define new_b(q) new_request(B, q)
#define ack_fits(x, q) \
  (session[x] && (q) <= SEQUENCES && said(0, x, q) && (q) >= acknowledged[x] && \
   (!calm || (session[x] == own_session[x] && (q) == taken[x] && (q) > acknowledged[x])))
#define ack_a(q) ack_fits(A, q)
#define ack_b(q) ack_fits(B, q)
end:
  do
  :: atomic { choose3(q, old_a); d_step { pull(0, A, 1, q); tidy(A); q = 0 } }
  :: atomic { choose3(q, new_a); d_step { pull(0, A, 2, q); tidy(A); q = 0 } }
  :: atomic { choose3(q, old_b); d_step { pull(0, B, 1, q); tidy(B); q = 0 } }
  :: atomic { choose3(q, new_b); d_step { pull(0, B, 2, q); tidy(B); q = 0 } }
  :: atomic { choose8(q, ack_a); d_step { take_ack(0, A, q); tidy(A); q = 0 } }
  :: atomic { choose8(q, ack_b); d_step { take_ack(0, B, q); tidy(B); q = 0 } }
  :: d_step { !calm && rotations < ROTATIONS && up[0] == both ->
      rotations++; rotating[0] = true;
      reconcile(0); flush(0) }
  :: d_step { retiring[0] && switched[0] == both -> grace_over(0) }
  od
}

init {
  d_step { own_session[A] = 1; own_session[B] = 1 }
  atomic {
    run Node(A); run Node(B); run Releaser();
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

ltl progress { [] (calm -> <> whole) }
#endif
