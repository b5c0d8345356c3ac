/*
 * Shared by all models of MAKE (services/make/SPEC.md): names, sets of small numbers, and the properties by name.
 *
 * The bus is the attacker. It is no process with a memory of its own: everything that was ever sent stays available, and a
 * step that takes a message may take any that the attacker has or can make. So a message that is lost is one that is never
 * taken, and one that is repeated is taken twice. What the attacker can make is said where it is taken: it signs only
 * with keys that it has, it opens only what is sealed to them.
 */

/* Nodes: two honest ones, the ends of edge A:B, and M, the attacker's, on genuine hardware. */
#define A 0
#define B 1
#define M 2

/* Sets of small numbers: 0..7 in a byte, 0..14 in a short. */
#define has(set, i) (((set) >> (i)) & 1)
#define with(set, i) ((set) | (1 << (i)))
#define without(set, i) ((set) & ~(1 << (i)))

/*
 * A broken property ends the run, and the checker prints the assertion: its first word is the property's name. The names are
 * constants, false, and no part of the state.
 */
hidden byte secrecy, agreement, injective, recent, rising, lease_bound, bound_term;
#ifdef LOSS_ALLOWED
hidden byte no_loss = 1;
#else
hidden byte no_loss;
#endif
#define holds(property, condition) assert(property || (condition))
