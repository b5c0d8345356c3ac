#!/bin/sh
# Boots Debian's own kernel under software emulation and runs the script named by $1 inside, as process 1, with the host's root
# read-only under a tmpfs overlay (9p). Prints what the script prints; ends with the script's exit status, 124 on timeout,
# 125 when the guest never got as far as the script. Up in about 4 s; no network, no firmware, no TPM.
#   LIMIT_S  seconds before the guest is ended (default 120)   MEMORY_MB  (default 2048)   KERNEL  (default: newest 6.1 in /boot)
# Needs (Debian): qemu-system-x86 linux-image-amd64 busybox-static cpio
set -eu
[ $# -ge 1 ] || { echo "boot-6.1: which script?" >&2; exit 125; }
inside=$(realpath "$1")
for tool in qemu-system-x86_64 busybox cpio timeout; do
  command -v $tool >/dev/null || { echo "boot-6.1: $tool is missing (Debian: qemu-system-x86 busybox-static cpio coreutils)" >&2; exit 125; }
done
here=$(cd "$(dirname "$0")/../.." && pwd -P)
kernel=${KERNEL:-$(ls -v "$here"/.cache/guest-kernel/boot/vmlinuz-6.1.* /boot/vmlinuz-6.1.* 2>/dev/null | tail -1)}
[ -n "$kernel" ] || { echo "boot-6.1: no /boot/vmlinuz-6.1.* (Debian: linux-image-amd64)" >&2; exit 125; }
version=${kernel##*/vmlinuz-}
modules_root=${kernel%/boot/*}/lib/modules/$version
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
root=$work/root
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/ro" "$root/rw" "$root/newroot" "$root/mods"
cp "$(command -v busybox)" "$root/bin/busybox"
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci netfs fscache 9pnet 9p 9pnet_virtio overlay"
for module in $modules; do
  file=$(find "$modules_root" -name "$module.ko" | head -1)
  [ -n "$file" ] || { echo "boot-6.1: $version has no module $module" >&2; exit 125; }
  cp "$file" "$root/mods/"
done
# The script's status comes back as the last line of a console that has nothing else to say after it.
cat >"$root/run" <<RUN
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
ip link set lo up 2>/dev/null
[ -e "/lib/modules/$version" ] || { mkdir -p /lib/modules; ln -s "$modules_root" "/lib/modules/$version"; }
cd /
status=0
"$inside" </dev/null || status=\$?
sync
echo
echo "guest-exit-status: \$status"
sleep 0.2
echo o >/proc/sysrq-trigger
sleep 10
RUN
cat >"$root/init" <<INIT
#!/bin/busybox sh
b=/bin/busybox
\$b mount -t proc proc /proc; \$b mount -t sysfs sys /sys; \$b mount -t devtmpfs dev /dev
for m in $modules; do \$b insmod /mods/\$m.ko; done
\$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /ro
\$b mount -t tmpfs tmpfs /rw; \$b mkdir -p /rw/upper /rw/work
\$b mount -t overlay overlay -o lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work /newroot
\$b cp /run /newroot/guest-run
for d in proc sys dev; do \$b mkdir -p /newroot/\$d; \$b mount --move /\$d /newroot/\$d; done
echo guest-ready
exec \$b switch_root /newroot /bin/sh /guest-run
INIT
chmod +x "$root/init" "$root/run"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"
status=0
# One thread for both processors: with a thread each, V8 dies in one start of six (code that is made and run at once). On a busy
# machine the emulated timer is late, which a kernel that checks it takes for broken.
timeout "${LIMIT_S:-120}" qemu-system-x86_64 -machine q35 -accel tcg,thread=single -cpu max -smp 2 -m "${MEMORY_MB:-2048}" -nographic -no-reboot \
  -nic none -kernel "$kernel" -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1 no_timer_check" \
  -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null >"$work/console" 2>&1 || status=$?
tr -d '\r' <"$work/console" | sed -n '/guest-ready$/,/^guest-exit-status: /p' | sed -e 1d -e '/^guest-exit-status: /d'
[ "$status" -ne 124 ] || { echo "boot-6.1: ended after ${LIMIT_S:-120} s" >&2; exit 124; }
inner=$(tr -d '\r' <"$work/console" | sed -n 's/^guest-exit-status: \([0-9]*\)$/\1/p' | tail -1)
[ -n "$inner" ] || { echo "boot-6.1: the guest ended without a status; its console:" >&2; tail -20 "$work/console" >&2; exit 125; }
exit "$inner"
