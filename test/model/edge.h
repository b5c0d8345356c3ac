/*
 * Steps 5 to 7 of MAKE for one edge A:B: standing requests, releases, acknowledgements, and the state machines of the
 * releaser (generation.ts, releaser.ts) and of a node (node-state.ts, node-rules.ts).
 *
 * A model says before it includes this how much there may be of everything:
 *   RELEASERS   each with a term of its own, by number
 *   SESSIONS    of each node, from 1
 *   REQUESTS    of each session, from 1: the counter is the nonce
 *   SEQUENCES   releases to each session in a term, from 1
 *   EPOCHS      of each term, from 1
 * and how much of the last three is kept for the time when the attacker has stopped: KEPT_REQUESTS, KEPT_SEQUENCES,
 * KEPT_EPOCHS. With LEASE, time passes and a lease has this many ticks.
 *
 * Keys of an epoch are the same at both ends if both took them from one generation, and each by the session that the
 * generation rests on: secret, results and indices belong to the generation, the exchange to the two sessions.
 */
#define at(r, x) ((r) * 2 + (x))
#define slot(r, x, s, q) (((at(r, x) * SESSIONS) + (s) - 1) * SEQUENCES + (q) - 1)
#define both 3

/*
 * Epochs (term, n) as one number that rises with (term, n); 0: none. With EQUAL_TERMS two releasers reign in one term, and
 * `made_by` tells whose the keys are that an end installed last under a number.
 */
#ifdef EQUAL_TERMS
#define epoch(r, n) (n)
#define n_of(r, g) (g)
byte made_by[2];
#define maker(x, g) has(made_by[x], g)
#define same_maker(x, r, n) (!holds_epoch(x, r, n) || maker(x, n) == (r))
/* Other indices than those installed, so the release is refused. */
#define same_indices(x, r, m) \
  (same_maker(x, r, install_of(m)) && same_maker(x, r, active_of(m)) && same_maker(x, r, retire_of(m)))
#else
#define epoch(r, n) ((r) * EPOCHS + (n))
#define n_of(r, g) ((g) > (r) * EPOCHS && (g) <= ((r) + 1) * EPOCHS -> (g) - (r) * EPOCHS : 0)
#define same_indices(x, r, m) true
#endif

bool calm;                      /* the attacker has stopped */
#define spare(bound, keep) (calm -> (bound) : (bound) - (keep))

/* ---- messages ---- */

/* A release: nonce, and the n of what is in state install, active, retire. 0: not sent. */
short release[RELEASERS * 2 * SESSIONS * SEQUENCES];
#define packed(nonce, installed, active, retired) \
  ((nonce) << 12 | (installed) << 8 | (active) << 4 | (retired))
#define nonce_of(m) ((m) >> 12)
#define install_of(m) ((m) >> 8 & 15)
#define active_of(m) ((m) >> 4 & 15)
#define retire_of(m) ((m) & 15)
/* An acknowledgement, by the sequence that it answers: bit 0, the n that are held as bits from 1, and the one in use. */
byte ack[RELEASERS * 2 * SESSIONS * SEQUENCES];
/* The newest request of each session. Requests are known when they are made; results go with them. */
byte asked[2 * SESSIONS];
#define request_of(x, s) asked[(x) * SESSIONS + (s) - 1]

/* ---- the releaser ---- */

byte pending[RELEASERS], current[RELEASERS], retiring[RELEASERS], newest[RELEASERS];
bool rotating[RELEASERS];
byte confirmed[RELEASERS], switched[RELEASERS];      /* sets of nodes */
byte rests_on[RELEASERS * EPOCHS];                   /* by generation: the pair of sessions */
byte up[RELEASERS];                                  /* nodes with a request outstanding */
byte revoked;                                        /* a set of nodes */
byte session[RELEASERS * 2], counter[RELEASERS * 2], sequence[RELEASERS * 2], acknowledged[RELEASERS * 2];
#define pair_in_force(r) (session[at(r, A)] * 4 + session[at(r, B)])
#define of_generation(r, n) rests_on[(r) * EPOCHS + (n) - 1]
#define half(pair, x) ((x) == A -> (pair) / 4 : (pair) % 4)

byte dirty;                                          /* 0 between steps */

#ifdef LEASE
byte now;
byte lease_until[RELEASERS * 2];
#define grants(r, x) lease_until[at(r, x)] = now + LEASE
#else
#define grants(r, x) skip
#endif

#ifndef sealed
#define sealed(r, x) skip
#endif

inline send(r, x) {
  if
  :: has(dirty, x) && has(up[r], x) && sequence[at(r, x)] < spare(SEQUENCES, KEPT_SEQUENCES) ->
      sequence[at(r, x)]++;
      release[slot(r, x, session[at(r, x)], sequence[at(r, x)])] =
        packed(counter[at(r, x)], pending[r], current[r], retiring[r]);
      sealed(r, x)
  :: else
  fi
}

inline flush(r) { send(r, A); send(r, B); dirty = 0 }

/* An epoch begins where both ends are there and none rests on their results. */
inline reconcile(r) {
  if
  :: up[r] == both ->
      if
      :: pending[r] && of_generation(r, pending[r]) != pair_in_force(r) -> pending[r] = 0; dirty = both
      :: else
      fi;
      if
      :: !pending[r] && newest[r] < spare(EPOCHS, KEPT_EPOCHS) &&
         (!current[r] || of_generation(r, current[r]) != pair_in_force(r) || rotating[r]) ->
          newest[r]++;
          pending[r] = newest[r]; of_generation(r, pending[r]) = pair_in_force(r);
          confirmed[r] = 0; rotating[r] = false; dirty = both
      :: else
      fi
  :: else
  fi
}

#define excuse(r, n) excused = (n -> with(excused, epoch(r, n)) : excused)

inline stop_edge(r) {
  excuse(r, pending[r]); excuse(r, current[r]); excuse(r, retiring[r]);
  pending[r] = 0; current[r] = 0; retiring[r] = 0; switched[r] = 0; dirty = both
}

/* The request q of session s of node x, with its result. A newer session's result replaces the one in force. */
inline pull(r, x, s, q) {
  if
  :: s > session[at(r, x)] ->
      session[at(r, x)] = s; sequence[at(r, x)] = 0; acknowledged[at(r, x)] = 0
  :: else
  fi;
  counter[at(r, x)] = q;
  up[r] = with(up[r], x);
  grants(r, x);
  dirty = with(dirty, x);
  reconcile(r);
  flush(r)
}

#ifdef NO_CONFIRMATION
#define agreed(r) true
#else
#define agreed(r) (confirmed[r] == both)
#endif

#ifdef NO_GRACE
#define after_switch(n) 0
#else
#define after_switch(n) (n)
#endif

#define sent(r, x, q) release[slot(r, x, session[at(r, x)], q)]
#define said(r, x, q) ack[slot(r, x, session[at(r, x)], q)]

/* Held against the very release that it answers: first what was active there, then what was to be installed. */
inline take_ack(r, x, q) {
  acknowledged[at(r, x)] = q;
  if
  :: active_of(sent(r, x, q)) && active_of(sent(r, x, q)) == current[r] ->
      if
      :: !has(said(r, x, q), current[r]) -> rotating[r] = (!pending[r] || rotating[r])
      :: has(said(r, x, q), current[r]) && said(r, x, q) >> 5 == current[r] -> switched[r] = with(switched[r], x)
      :: else
      fi
  :: else
  fi;
  if
  :: install_of(sent(r, x, q)) && install_of(sent(r, x, q)) == pending[r] ->
      if
      :: !has(said(r, x, q), pending[r]) -> pending[r] = 0; dirty = both
      :: else ->
          confirmed[r] = with(confirmed[r], x);
          if
          :: agreed(r) ->
              retiring[r] = after_switch(current[r]); current[r] = pending[r]; pending[r] = 0;
              switched[r] = 0; dirty = both
          :: else
          fi
      fi
  :: else
  fi;
  reconcile(r);
  flush(r)
}

/* The grace time after both have switched is over. */
inline grace_over(r) { retiring[r] = 0; dirty = both; flush(r) }

/* ---- a node ---- */

byte own_session[2], newest_request[2], taken[2];    /* taken: the sequence of the last release believed */
short held[2], gone[2];                              /* sets of epochs */
byte in_use[2], tombstone[2];
byte follows[2];                                     /* the releaser whose term the session's Evidence binds */
/* For the properties: what was ever installed; what an end lost without anybody's fault. */
short ever[2], excused;

#ifdef LEASE
byte deadline[2], t0[2], answered[2];
#endif

#define other(x) (1 - (x))
#define holds_epoch(x, r, n) ((n) && has(held[x], epoch(r, n)))
#ifdef NO_TOMBSTONE
#define gone_epoch(x, r, n) false
#define above_tombstone(x, g) true
#else
#define gone_epoch(x, r, n) has(gone[x], epoch(r, n))
#define above_tombstone(x, g) ((g) > tombstone[x])
#endif
#define new_install(x, r, m) \
  (install_of(m) && !holds_epoch(x, r, install_of(m)) && !gone_epoch(x, r, install_of(m)))
/* As a whole or not at all. */
#define sound(x, r, m) \
  ((!new_install(x, r, m) || above_tombstone(x, epoch(r, install_of(m)))) && \
   (!install_of(m) || in_use[x] != epoch(r, install_of(m))) && \
   same_indices(x, r, m) && (!retire_of(m) || active_of(m) || in_use[x] != epoch(r, retire_of(m))))
#define message(x, q) release[slot(follows[x], x, own_session[x], q)]
#ifdef NO_SEQUENCE
#define overtaken(x, q) false
#else
#define overtaken(x, q) ((q) <= taken[x])
#endif
#define is_answer(x, q) (message(x, q) && nonce_of(message(x, q)) == newest_request[x] && !overtaken(x, q))

inline drop(x, g) {
  holds(no_loss, in_use[other(x)] != g || has(excused, g));
  held[x] = without(held[x], g); gone[x] = with(gone[x], g);
  if
  :: in_use[x] == g -> in_use[x] = 0
  :: else
  fi
}

#ifdef DELTA
/* Only what the release before this one still named. */
#define names(m, n) (install_of(m) == (n) || active_of(m) == (n) || retire_of(m) == (n))
#define unlisted(x, r, q, n) \
  (holds_epoch(x, r, n) && (q) > 1 && names(message(x, (q) - 1), n) && !names(message(x, q), n))
#else
#define unlisted(x, r, q, n) \
  (holds_epoch(x, r, n) && install_of(message(x, q)) != (n) && active_of(message(x, q)) != (n) && \
   retire_of(message(x, q)) != (n))
#endif
#define drop_unlisted(x, r, q, n) if :: unlisted(x, r, q, n) -> drop(x, epoch(r, n)) :: else fi

#if EPOCHS == 2
#define held_n(x, r) (held[x] >> epoch(r, 0) & 6)
#define each_epoch(what, x, r, q) what(x, r, q, 1); what(x, r, q, 2)
#elif EPOCHS == 3
#define held_n(x, r) (held[x] >> epoch(r, 0) & 14)
#define each_epoch(what, x, r, q) what(x, r, q, 1); what(x, r, q, 2); what(x, r, q, 3)
#elif EPOCHS == 4
#define held_n(x, r) (held[x] >> epoch(r, 0) & 30)
#define each_epoch(what, x, r, q) what(x, r, q, 1); what(x, r, q, 2); what(x, r, q, 3); what(x, r, q, 4)
#endif

inline acknowledge(x, r, q) {
  ack[slot(r, x, own_session[x], q)] = 1 | held_n(x, r) | n_of(r, in_use[x]) << 5
}

/* Inbound and outbound are installed, the lease set, sending switches, what is not listed goes, and it is acknowledged. */
inline believe(x, r, q) {
  taken[x] = q;
  if
  :: new_install(x, r, message(x, q)) ->
      holds(injective, !has(ever[x], epoch(r, install_of(message(x, q)))));
      holds(rising, epoch(r, install_of(message(x, q))) > tombstone[x]);
      holds(agreement, half(of_generation(r, install_of(message(x, q))), x) == own_session[x]);
      tombstone[x] = epoch(r, install_of(message(x, q)));
#ifdef EQUAL_TERMS
      made_by[x] = without(made_by[x], tombstone[x]) | (r << tombstone[x]);
#endif
      held[x] = with(held[x], tombstone[x]); ever[x] = with(ever[x], tombstone[x])
  :: else
  fi;
#ifdef LEASE
  answered[x] = t0[x];
#ifdef LEASE_FROM_RECEIPT
  deadline[x] = now + LEASE;
#else
  deadline[x] = t0[x] + LEASE;
#endif
#endif
  if
  :: holds_epoch(x, r, active_of(message(x, q))) && in_use[x] != epoch(r, active_of(message(x, q))) ->
      holds(rising, epoch(r, active_of(message(x, q))) > in_use[x]);
      in_use[x] = epoch(r, active_of(message(x, q)));
      holds(agreement, has(ever[other(x)], in_use[x]));
#ifdef EQUAL_TERMS
      holds(agreement, maker(A, in_use[x]) == maker(B, in_use[x]));
#endif
      holds(no_loss, has(held[other(x)], in_use[x]) || has(excused, in_use[x]))
  :: else
  fi;
  each_epoch(drop_unlisted, x, r, q);
  acknowledge(x, r, q)
}

inline ask(x) {
  newest_request[x]++;
#ifdef LEASE
  t0[x] = now;
#endif
  request_of(x, own_session[x]) = newest_request[x]
}

#define whole \
  (in_use[A] && in_use[A] == in_use[B] && has(held[A], in_use[A]) && has(held[B], in_use[A]))

/*
 * What nobody can use any more is forgotten, so that it doesn't tell states apart: a release that answers no newest request
 * or was overtaken, once its acknowledgement was overtaken too.
 */
byte i;                                              /* 0 between steps */
inline tidy(x) {
  skip;
#if !defined(DELTA) && !defined(NO_SEQUENCE)
  i = 1;
  do
  :: i <= SEQUENCES ->
      if
      :: i < acknowledged[at(follows[x], x)] && session[at(follows[x], x)] == own_session[x] -> ack[slot(follows[x], x, own_session[x], i)] = 0
      :: else
      fi;
      if
      :: i < acknowledged[at(follows[x], x)] && session[at(follows[x], x)] == own_session[x] &&
         (i <= taken[x] || nonce_of(release[slot(follows[x], x, own_session[x], i)]) != newest_request[x]) ->
          release[slot(follows[x], x, own_session[x], i)] = 0
      :: else
      fi;
      i++
  :: else -> break
  od;
  i = 0;
#endif
#ifdef LEASE
  if
  :: !held[x] -> deadline[x] = 0; answered[x] = 0
  :: else
  fi;
#endif
}

/* ---- choosing among all that fits ---- */

#define choose3(v, fits) if :: fits(1) -> v = 1 :: fits(2) -> v = 2 :: fits(3) -> v = 3 fi
#define choose8(v, fits) \
  if :: fits(1) -> v = 1 :: fits(2) -> v = 2 :: fits(3) -> v = 3 :: fits(4) -> v = 4 \
     :: fits(5) -> v = 5 :: fits(6) -> v = 6 :: fits(7) -> v = 7 :: fits(8) -> v = 8 fi
