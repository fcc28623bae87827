"""The kinds of ARM64 processor that can be emulated. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Processor:
    """A kind of processor that QEMU is told to be, and that `/proc/cpuinfo` there says it is.

    `part`, `variant` and `revision` are those of QEMU's MIDR_EL1 (target/arm/cpu64.c of QEMU 7.2), `features` of its
    hardware capabilities.
    """

    name: str
    part: int
    variant: int
    revision: int
    features: str

    @property
    def cpuinfo(self) -> str:
        """The text of `/proc/cpuinfo`, one core."""
        lines = (
            ("processor\t", "0"),
            ("BogoMIPS\t", "100.00"),
            ("Features\t", self.features),
            ("CPU implementer\t", "0x41"),
            ("CPU architecture", "8"),
            ("CPU variant\t", f"{self.variant:#x}"),
            ("CPU part\t", f"{self.part:#x}"),
            ("CPU revision\t", str(self.revision)),
        )
        return "".join(f"{key}: {value}\n" for key, value in lines) + "\n"


_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV82 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
PROCESSORS = {
    "cortex-a53": Processor("Cortex-A53", 0xD03, 0, 4, _ARMV8),
    "cortex-a72": Processor("Cortex-A72", 0xD08, 0, 3, _ARMV8),
    "cortex-a76": Processor("Cortex-A76", 0xD0B, 4, 1, _ARMV82),
}
"""By QEMU's name. A53 and A72 have no dot product; A76 has it, and half floats. QEMU 7.2 knows no newer one."""
DEFAULT_PROCESSOR = "cortex-a76"
