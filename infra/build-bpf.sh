#!/bin/sh
# Compiles the BPF programs: bpf/build/vouchsafe.bpf.o (the product) and bpf/build/aead-test.bpf.o (entry points for tests).
# Only when a source is newer. The same sources give the same bytes wherever the checkout lies. Prints one line.
set -eu
cd "$(dirname "$0")/../bpf"
CLANG=${CLANG:-clang-16}
command -v "$CLANG" >/dev/null || { echo "build-bpf: $CLANG is not installed (Debian: apt-get install clang-16 libbpf-dev)" >&2; exit 1; }
mkdir -p build
built=
for program in vouchsafe aead-test; do
  object=build/$program.bpf.o
  if [ -e "$object" ] && [ -z "$(find . ../infra/build-bpf.sh -maxdepth 1 \( -name '*.[ch]' -o -name '*.sh' \) -newer "$object")" ]; then continue; fi
  # Compiled under the name "bpf/...", written beside and moved: nobody reads half an object.
  "$CLANG" -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -fno-strict-aliasing \
    -fdebug-compilation-dir=/vouchsafe/bpf "-ffile-prefix-map=$PWD=/vouchsafe/bpf" \
    "-I/usr/include/$(uname -m)-linux-gnu" -c "$program.bpf.c" -o "$object.$$"
  mv "$object.$$" "$object"
  built="$built $program"
done
echo "build-bpf:${built:- nothing to do, bpf/build is up to date}"
