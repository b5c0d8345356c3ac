/** Aims the one program of an object file at a function of a program that is loaded: fentry, fexit or freplace, as it says. */
import { readFileSync } from "node:fs"
import koffi from "koffi"

type Pointer = bigint | null

/** Loads it; `attach` attaches it and gives what detaches and unloads it. */
export const aimAt = (
  path: string,
  programFd: number,
  name: string,
): { readonly attach: () => () => void } => {
  const library = koffi.load("libbpf.so.1")
  const open = library.func("void *bpf_object__open_mem(const void *buf, size_t size, const void *opts)")
  const next = library.func("void *bpf_object__next_program(const void *object, void *program)")
  const aim = library.func("int bpf_program__set_attach_target(void *program, int fd, const char *name)")
  const load = library.func("int bpf_object__load(void *object)")
  const attach = library.func("void *bpf_program__attach(const void *program)")
  const destroy = library.func("int bpf_link__destroy(void *link)")
  const close = library.func("void bpf_object__close(void *object)")
  const bytes = readFileSync(path)
  const object: Pointer = open(bytes, bytes.length, null)
  const program: Pointer = object === null ? null : next(object, null)
  const held = (what: string, good: boolean): void => {
    if (!good) throw new Error(`${what} ${path}: errno ${koffi.errno()}`)
  }
  held("open", program !== null)
  held("aim", aim(program, programFd, name) === 0)
  held("load", load(object) === 0)
  return {
    attach: () => {
      const link: Pointer = attach(program)
      held("attach", link !== null)
      return () => {
        destroy(link)
        close(object)
      }
    },
  }
}
