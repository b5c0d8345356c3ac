import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const repository = fileURLToPath(new URL("../..", import.meta.url))

/** The real object; `npm run setup` and infra/build-bpf.sh make it. */
export const realObject = join(repository, "bpf/build/vouchsafe.bpf.o")

const prologue = `
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
`

export interface Compiler {
  /** Compiles BPF C and gives the object's path. */
  readonly compile: (name: string, source: string) => string
  /** Compiles C for this machine, with bpf/ among the include paths, runs it and gives what it printed. */
  readonly runHost: (name: string, source: string) => string
  readonly directory: string
  readonly remove: () => void
}

/** A temporary directory with clang-16. */
export const makeCompiler = (): Compiler => {
  const directory = mkdtempSync(join(tmpdir(), "vskern-"))
  const build = (args: ReadonlyArray<string>): void => void execFileSync("clang-16", args, { stdio: "pipe" })
  const write = (name: string, source: string): string => {
    const path = join(directory, `${name}.c`)
    writeFileSync(path, source)
    return path
  }
  return {
    directory,
    compile: (name, source) => {
      const out = join(directory, `${name}.o`)
      const include = `-I/usr/include/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`
      build([
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v3",
        include,
        "-c",
        write(name, prologue + source),
        "-o",
        out,
      ])
      return out
    },
    runHost: (name, source) => {
      const out = join(directory, name)
      build(["-O1", `-I${join(repository, "bpf")}`, write(name, source), "-o", out])
      return execFileSync(out, { encoding: "utf8" })
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** Four small programs with the names of the real ones, which share a map; `seal` is vs_seal's body. */
export const small = (options: { readonly entries?: number; readonly ttl?: number } = {}): string => `
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(key_size, 4); __uint(value_size, 8);
  __uint(max_entries, ${options.entries ?? 16}); } hits SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(key_size, 4); __uint(value_size, 12);
  __uint(max_entries, 4); } shares SEC(".maps");
static const volatile __u32 table[4] = {1, 2, 3, ${options.ttl ?? 64}};
static __attribute__((noinline)) int count(__u32 key) {
  __u64 *v = bpf_map_lookup_elem(&hits, &key);
  if (v) __sync_fetch_and_add(v, 1);
  __u32 *s = bpf_map_lookup_elem(&shares, &key);
  if (s) s[0] += 1;
  return v != 0;
}
__attribute__((noinline)) int extra(int x) { return x + ${options.ttl ?? 64}; }
SEC("tc") int vs_seal(struct __sk_buff *skb) {
  skb->mark = extra(count(1)) + table[skb->len & 3];
  return 2;
}
SEC("tc") int vs_open(struct __sk_buff *skb) { count(2); return 2; }
SEC("tc") int vs_guard(struct __sk_buff *skb) { skb->mark += ${options.ttl ?? 64}; count(3); return 2; }
SEC("tc") int vs_inner(struct __sk_buff *skb) { return count(4) ? 0 : 2; }
SEC("syscall") int vs_call(__u64 *ctx) { ctx[0] += 5; return 7; }
`
