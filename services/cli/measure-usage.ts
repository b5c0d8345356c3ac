/** What `vouchsafe measure snp|tdx|tpm --help` says. */

const snp = `vouchsafe measure snp --ovmf FILE --vcpus N --vcpu-type TYPE [--kernel FILE [--initrd FILE] [--cmdline TEXT]]
                      [--guest-features 0x1] [--vmm qemu|ec2|gce] [--json]

  The launch measurement of an AMD SEV-SNP guest: prints sev_snp.measurements for a stage of the workflow.

  --ovmf            the firmware that the VMM maps below 4 GiB, with its table for SEV-SNP
  --vcpus           how many: each is measured
  --vcpu-type       QEMU's processor model, such as EPYC-v4, EPYC-Milan, EPYC-Genoa; or family, model and stepping of
                    another, such as 25.17.1 (qemu only)
  --kernel          what QEMU loads beside the firmware with kernel-hashes=on; the firmware must have a place for it
  --guest-features  SEV_FEATURES as the VMM sets them: 0x1 with current kernels, 0x21 with some older ones
  --vmm             who starts the guest: the processors' first state differs
`

const tdx = `vouchsafe measure tdx --firmware FILE [--page-order page|section]
                      [--kernel FILE [--initrd FILE] [--cmdline TEXT] [--qemu-memory SIZE]] [--ccel LOG] [--json]

  MRTD and runtime registers of an Intel TDX guest: prints tdx.mrtd and tdx.rtmrs for a stage of the workflow.

  --page-order   how the VMM adds pages: page (upstream QEMU), or section (QEMU 8.2 of Ubuntu 24.04's TDX hosts)
  --kernel       a kernel with an EFI stub that the VMM gives to the firmware directly: RTMRs 1 and 2
  --qemu-memory  the guest's memory, such as 2048M, for a QEMU (before 10.0, q35) that fills in the kernel's header
  --ccel         a boot's log (/sys/firmware/acpi/tables/data/CCEL): registers that aren't computed are taken from it,
                 and those that are compared with it

  Exit status: 3 where the log has something else than was computed.
  RTMR 0 holds the VMM's memory map, ACPI tables and variables, and RTMR 3 what software adds while it runs: neither
  follows from files.
`

const tpm = `vouchsafe measure tpm [--bank sha256|sha384|sha512] [--json]
                      [--kernel FILE [--initrd FILE] [--cmdline TEXT] [--qemu-memory SIZE] | --uki FILE [--phase WORD]...
                       | --image FILE...] [--failed-options N] [--variables DIR [--authority VARIABLE=FILE]...]
                      [--eventlog LOG [--pcr N]...]

  PCRs of a boot: prints tpm.pcrs for a stage of the workflow.

  --kernel          given by the VMM (QEMU's -kernel) to OVMF: PCRs 4 and 9
  --qemu-memory     the guest's memory, such as 2048M, for a QEMU (before 10.0, q35) that fills in the kernel's header
  --uki             a unified kernel image with systemd's stub: PCRs 4, 9 and 11
  --phase           PCR 11 after these words of systemd-pcrphase: enter-initrd, leave-initrd, sysinit, ready
  --image           UEFI images in the order in which they are measured (shim, boot loader, kernel): PCR 4. One that is
                    measured twice is named twice: Debian's GRUB 2.06 does so with a kernel
  --failed-options  how many boot options came back before
  --variables       a folder with SecureBoot, PK, KEK, db and dbx as /sys/firmware/efi/efivars has them: PCR 7
  --authority       what let images run, in their order: db=CERTIFICATE, and of shim SbatLevel=FILE, MokListRT=FILE,
                    MokListTrusted=FILE, Shim=FILE, vendor_db=FILE (values as shim measures them)
  --eventlog        a boot's log: computed registers are compared with it, and those of --pcr are taken from it

  Exit status: 3 where the log has something else than was computed.
  PCRs 0 to 3 are the firmware's and follow from no file of yours: take them from a log of a machine that you trust.
`

export const measureUsage = { snp, tdx, tpm } as const

export const measurable = ["snp", "tdx", "tpm"] as const
export type Measurable = (typeof measurable)[number]
