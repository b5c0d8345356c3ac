/*
 * "Peers by Evidence": the edge A:B where each end appraises the other's Evidence itself, and a control plane that lies. Its
 * keys are the attacker's: it says of anybody what it likes, chooses what stands under its root, and serves from the
 * bucket whatever was ever put there. So nothing of verifier and releaser is modelled but that they can say anything.
 *
 * A result names a session r and a key k; what is served as its proof is Evidence e. Keys rest on the result. A has an edge
 * to M too, which is a node like others: what is right of it must count for no other.
 */
#include "make.h"

/* Sessions, in the order in which a node begins them. Each stands for its id, its nonce and its key. */
#define A1 0
#define A2 1
#define B1 2
#define B2 3
/* In the place of a session, key or Evidence: whatever M, its keys and its hardware say, which is anything. */
#define FOREIGN 4
#define owner(s) ((s) <= A2 -> A : ((s) <= B2 -> B : M))
#define peer(x) (1 - (x))
#define own(x) ((x) == A -> 3 : 12)
#define first(x) ((x) * 2)

/* The checks. Each mutation takes one away. */
#ifdef DROP_CHIP
#define is_machine(x, e) (e == FOREIGN || owner(e) == peer(x))
#else
#define is_machine(x, e) (owner(e) == peer(x))
#endif
#ifdef DROP_NODE
#define is_peer(x, e) (is_machine(x, e) || owner(e) == x)
#else
#define is_peer(x, e) is_machine(x, e)
#endif
#ifdef DROP_KEY
#define binds_key(e, k) true
#else
#define binds_key(e, k) (e == FOREIGN || e == k)
#endif
#ifdef DROP_SESSION
#define binds_session(e, r) true
#else
#define binds_session(e, r) (e == FOREIGN || e == r)
#endif
#ifdef DROP_OWN_NONCE
#define is_fresh(x, e) true
#else
#ifdef DROP_AGE
#define is_fresh(x, e) (e == FOREIGN || (leaves[e] & own(x)))
#else
#define is_fresh(x, e) (e == FOREIGN || (leaves[e] & own(x) & young))
#endif
#endif
#ifdef DROP_DOCUMENT
#define binds_document(e, s) true
#else
#define binds_document(e, s) (e == FOREIGN || document[e] == document[s])
#endif

byte newest[2];                 /* by node: which version of the document it has got */
byte began;                     /* sessions, and so nonces that are known */
byte young;                     /* nonces that count still */
byte document[4];               /* by session: under which version it is attested */
byte attested;                  /* sessions whose attester has made Evidence */
byte leaves[4];                 /* by Evidence: the nonces under the root that it binds */
byte before[4];                 /* by Evidence: the nonces that were there when it was made; only properties look at it */

/* By node: verdicts that it remembers, as (k, r) of its peer and one of M, and the version that they are under. */
int proven[2];
byte proven_by[2];
#define verdict(k, r) ((k) * 5 + (r))
#ifdef VERDICT_OF_ANYBODY
#define verdict_of_M verdict(FOREIGN, FOREIGN)
#else
#define verdict_of_M 25
#endif
bool aged;

byte e, k, r;
#define in_force(x) (has(began, first(x) + 1) -> first(x) + 1 : first(x))

#define shows(x, s) \
  ((e == FOREIGN || has(attested, e)) && is_peer(x, e) && binds_key(e, k) && binds_session(e, r) && is_fresh(x, e) && \
   binds_document(e, s))
#define remembered(x) (has(proven[x], verdict(k, r)) && is_fresh(x, k))

inline forget_others(x, s) {
  if
#ifndef REMEMBER_OVER_DOCUMENTS
  :: proven_by[x] != document[s] -> proven[x] = 0; proven_by[x] = document[s]
#endif
  :: else
  fi
}

/* What could be of use: what the peer's sessions have shown, what the own first one has, and what M makes up. */
inline choose_release(x) {
  if :: k = FOREIGN :: k = first(peer(x)) :: k = first(peer(x)) + 1 :: k = first(x) fi;
  if :: r = k :: r = first(peer(x)) fi;
  if :: e = FOREIGN :: e = first(peer(x)) :: e = first(peer(x)) + 1 :: e = first(x) fi
}

proctype Node(byte x) {
  byte s;
end:
  do
  /* Hello: its nonce is known from here on. */
  :: atomic { !has(began, first(x) + 1) ->
      s = (has(began, first(x)) -> first(x) + 1 : first(x));
      document[s] = newest[x];
      began = with(began, s); young = with(young, s) }
  /* Its attester answers, once. The control plane has put under its root what it likes of what there is. */
  :: atomic { has(began, first(x)) && !has(attested, in_force(x)) ->
      s = in_force(x);
      before[s] = began;
      if
      :: leaves[s] = began
      :: leaves[s] = with(0, s)
      fi;
      attested = with(attested, s) }
  /* A release: keys to be derived with k, resting on r; and what the bucket serves as its proof. */
  :: atomic { has(attested, in_force(x)) ->
      s = in_force(x);
      choose_release(x);
      forget_others(x, s);
      if
      :: remembered(x) || shows(x, s) ->
          holds(secrecy, k != FOREIGN);
          holds(agreement, owner(k) == peer(x) && r == k && document[k] == document[s]);
          holds(recent, before[k] & own(x) & young);
          proven[x] = proven[x] | (1 << verdict(k, r))
      :: else
      fi;
      e = 0; k = 0; r = 0 }
  /* M shows A its own Evidence, for their own edge: keys with M are M's to know, and nothing is asked of them. */
  :: atomic { x == A && has(attested, in_force(x)) ->
      s = in_force(x);
      forget_others(x, s);
      proven[x] = proven[x] | (1 << verdict_of_M) }
  od
}

/* The operator's next version reaches each node when the bus likes; and time passes. */
proctype World() {
end:
  do
  :: atomic { newest[A] == 0 -> newest[A] = 1 }
  :: atomic { newest[B] == 0 -> newest[B] = 1 }
  :: atomic { !aged -> aged = true; young = 0 }
  od
}

init { atomic { run Node(A); run Node(B); run World() } }
