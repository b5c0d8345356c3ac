/*
 * Steps 1 to 4 of MAKE, and the beacon's part of step 5: hello, offer, Evidence, result, and the releaser that believes it.
 *
 * The surroundings are as bad as they can be, so that nothing but the transcripts holds the parties apart: A, B and the
 * control plane are guests of one machine (one chip id) and run one image (one measurement). M's hardware signs any report
 * data that M likes, under M's chip. The control plane's attester quotes whatever root it is asked for.
 *
 * Verifier 0 runs under the workflow that A and B know, verifier 1 under a newer one that they have not got yet.
 */
#include "make.h"

/* Sessions. Each stands for its id, its nonce N and its keys: all are new with it, and become known by its hello. */
#define A1 0
#define A2 1
#define B1 2
#define M1 3
#define SESSIONS 4
#define owner(s) ((s) == A1 || (s) == A2 -> A : ((s) == B1 -> B : M))
/* In a result, in the place of a session's keys: those of the control plane. */
#define CONTROL_KEYS 4

/*
 * Challenges in the order of their slots: the first three are verifier 0's, some of them kept for the time when the attacker has
 * stopped; the last is verifier 1's.
 */
#define CHALLENGES 4
#if defined(PROGRESS) || defined(SMALL)
#define kept(c) ((c) == 1 || (c) == 2)
#else
#define kept(c) ((c) == 2)
#endif
#define verifier(c) ((c) < 3 -> 0 : 1)
#define workflow_of(v) (v)
#define GUEST_WORKFLOW 0
#define chip(node) ((node) == M -> 1 : 0)

/* The bindings. Each mutation takes some of them away. */
#ifdef DROP_CHALLENGE
#define binds_challenge(c, evidence) true
#else
#define binds_challenge(c, evidence) ((c) == (evidence))
#endif
#ifdef DROP_REPORT_NODE
#define report_binds_node(c, s) true
#else
#define report_binds_node(c, s) (node[c] == owner(s))
#endif
#ifdef DROP_CHALLENGE_NODE
#define challenge_binds_node(c, s) true
#else
#define challenge_binds_node(c, s) (node[c] == owner(s))
#endif
#ifdef DROP_REPORT_WORKFLOW
#define report_binds_workflow(c) true
#else
#define report_binds_workflow(c) (workflow_of(verifier(c)) == GUEST_WORKFLOW)
#endif
#ifdef DROP_OFFER_WORKFLOW
#define offer_binds_workflow(c) true
#else
#define offer_binds_workflow(c) (workflow_of(verifier(c)) == GUEST_WORKFLOW)
#endif
#ifdef DROP_NONCE
#define binds_nonce(term, s) ((term) == 1 || ended)
#else
#define binds_nonce(term, s) fresh_control(term, s)
#endif
#ifdef DROP_BEACON
#define beacon_in_force(c) true
#else
#define beacon_in_force(c) (beacon[c] == newest)
#endif

/*
 * Beacons: one of the releaser in term 1; one of its successor in term 2, by whose time the first is believed no more. (So
 * it is when a minute passes.) One that the attacker made up would be refused like a first one that is over.
 */
#define FIRST 0
#define SECOND 1
byte newest = FIRST;
#define ended (newest == SECOND)

/* The signed challenges: whom they name, with which beacon. */
byte node[CHALLENGES], session[CHALLENGES], beacon[CHALLENGES];
byte issued;                    /* which slots are in use */
byte outstanding;               /* which are alive at their verifier */
byte result[CHALLENGES];        /* 0: none, else 1 + whose keys the signed result names */
byte accepted;                  /* results that the releaser believed */
/* By session: the challenges that its attester has answered with Evidence. */
byte evidence[SESSIONS];

/* N of which sessions is known. Evidence that binds term 1 exists over those N only that were known before its end. */
byte known = 1 << M1;
byte quotable;
#define fresh_control(term, s) ((term) == 2 -> ended : !ended || has(quotable, s))
byte second_term;               /* challenges that went out with Evidence of term 2 */
#define term_of(c) (has(second_term, c) -> 2 : 1)

/* The loaders of A and B: 0, or 1 + the verifier whose offer the session has believed; whether it holds its result. */
byte believes[SESSIONS];
byte vouched;

/* Properties need to know: Evidence that was used for a result; results whose Evidence is older than the second beacon. */
byte used[SESSIONS];
byte stale;

bool calm;                      /* the attacker has stopped */

/* What a step takes or makes, chosen among all that fits. Always 0 between steps. */
byte c, e, s, n, k;
#define choose(v, fits) if :: fits(0) -> v = 0 :: fits(1) -> v = 1 :: fits(2) -> v = 2 :: fits(3) -> v = 3 fi
#define done c = 0; e = 0; s = 0; n = 0; k = 0

#define honest(x) ((x) != M)

/* An offer that guest and session believe: control-plane Evidence whose tree holds (node, id, N), a challenge under its key. */
#define believable(c, term, mine) \
  (has(issued, c) && session[c] == mine && challenge_binds_node(c, mine) && offer_binds_workflow(c) && \
   binds_nonce(term, mine))

proctype Loader(byte mine) {
#define offer(c) (believable(c, 1, mine) || believable(c, 2, mine))
#define offer_k(k) ((k) >= 1 && (k) <= 2 && believable(c, k, mine))
  /* The result must be that verifier's, and name this node, session and keys. */
#define own_result(c) \
  (result[c] == 1 + mine && session[c] == mine && node[c] == owner(mine) && verifier(c) + 1 == believes[mine])
  atomic { known = with(known, mine) }
end_offer:
  atomic { choose(c, offer); choose(k, offer_k);
    holds(recent, fresh_control(k, mine));
    believes[mine] = 1 + verifier(c);
    done }
end_result:
  atomic { choose(c, own_result);
    holds(agreement, workflow_of(verifier(c)) == GUEST_WORKFLOW);
    vouched = with(vouched, mine);
    done }
}

/* Answers whoever asks, as often as asked, but only to offers that it believes by itself. */
proctype Attester(byte mine) {
  /* With other control-plane Evidence than the verifier's own quote it would be refused. */
#define unanswered(c) (!has(evidence[mine], c) && believable(c, term_of(c), mine))
end:
  do
  :: atomic { choose(c, unanswered); evidence[mine] = with(evidence[mine], c); done }
  od
}

inline sign_result(keys) {
  outstanding = without(outstanding, c);
  result[c] = 1 + keys
}

proctype Verifier(byte v) {
#define own(c) (verifier(c) == v)
#define free(c) (own(c) && !has(issued, c) && (!kept(c) || calm))
#define asked(c) (own(c) && has(outstanding, c))
  /* Evidence that session s gave to challenge e, taken as the answer to challenge c. */
#define fits(c, s, e) \
  (has(evidence[s], e) && binds_challenge(c, e) && verifier(e) == v && session[c] == s && report_binds_node(c, s) && \
   report_binds_workflow(c) && chip(owner(s)) == chip(node[c]))
#define from(c, s) (fits(c, s, 0) || fits(c, s, 1) || fits(c, s, 2) || fits(c, s, 3))
#define answered(c) (asked(c) && (from(c, A1) || from(c, A2) || from(c, B1)))
#define from_s(s) (s <= B1 && from(c, s))
#define fits_e(e) fits(c, s, e)
#define of_chip(c, x) (asked(c) && !calm && chip(node[c]) == chip(x))
#define of_m(c) of_chip(c, M)
#define of_a(c) of_chip(c, A)
#define known_s(s) (has(known, s) && (!calm || s == A2))
#define older(e) if :: verifier(e) == v && node[e] == n -> outstanding = without(outstanding, e) :: else fi
end:
  do
  /* A hello, in anybody's name; the beacon is whatever the bus said last. A node's newest challenge replaces the one before. */
  :: atomic { (!calm || has(known, A2)) && (free(0) || free(1) || free(2) || free(3)) ->
      if
      :: free(0) -> c = 0
      :: !free(0) && free(1) -> c = 1
      :: !free(0) && !free(1) && free(2) -> c = 2
      :: !free(0) && !free(1) && !free(2) -> c = 3
      fi;
      choose(s, known_s);
      if
      :: s == M1 -> n = M
      :: s != M1 && !calm -> n = A
      :: s != M1 && !calm -> n = B
      :: calm -> n = A
      fi;
      if
      :: !calm -> k = FIRST
      :: newest == SECOND -> k = SECOND
      :: calm -> k = newest
      fi;
      older(0); older(1); older(2); older(3);
      node[c] = n; session[c] = s; beacon[c] = k;
      issued = with(issued, c); outstanding = with(outstanding, c);
      if
      :: ended -> second_term = with(second_term, c)
      :: else
      fi;
      done }
  /* Evidence of an honest node's attester: the right one, or any other that was ever made. */
  :: atomic { choose(c, answered); choose(s, from_s); choose(e, fits_e);
      holds(agreement, node[c] == owner(s) && workflow_of(v) == GUEST_WORKFLOW);
      holds(injective, !has(used[s], e));
      used[s] = with(used[s], e);
      if
      :: has(stale, e) -> stale = with(stale, c)
      :: else
      fi;
      sign_result(s);
      done }
  /* M's own hardware: everything fits, but the chip is M's. The keys are M's, or an honest node's public ones. */
  :: atomic { choose(c, of_m);
      holds(agreement, !honest(node[c]));
      if
      :: k = M1
      :: has(known, A1) -> k = A1
      fi;
      sign_result(k);
      done }
#ifdef DROP_ROLE
  /* The control plane's attester was asked to quote V as if it were a root: without the role that is a node's Evidence. */
  :: atomic { choose(c, of_a);
      holds(agreement, false);
      sign_result(CONTROL_KEYS);
      done }
#endif
  od
}

proctype Releaser() {
#define believed(c) \
  (result[c] && !has(accepted, c) && honest(node[c]) && workflow_of(verifier(c)) == GUEST_WORKFLOW && beacon_in_force(c))
end:
  do
  /* The next term begins. */
  :: atomic { newest == FIRST && !calm ->
      newest = SECOND; quotable = known; stale = evidence[A1] | evidence[A2] | evidence[B1] }
  :: atomic { choose(c, believed);
      holds(recent, !has(stale, c));
      accepted = with(accepted, c);
      done }
  od
}

#ifdef PROGRESS
proctype Calm() {
end:
  atomic { !has(known, A2) -> calm = true }
}
#endif

init {
  atomic {
    run Loader(A1); run Loader(A2); run Loader(B1);
    run Attester(A1); run Attester(A2); run Attester(B1);
    run Verifier(0); run Verifier(1);
    run Releaser();
#ifdef PROGRESS
    run Calm()
#endif
  }
}

#ifdef PROGRESS
/* Once the attacker has stopped, a new session of A is vouched for, and the releaser believes it. */
#define in_force(c) (has(accepted, c) && session[c] == A2 && node[c] == A && result[c] == 1 + A2)
ltl progress { [] (calm -> <> (has(vouched, A2) && (in_force(0) || in_force(1) || in_force(2)))) }
#endif
