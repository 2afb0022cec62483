import Memory

/// Where a processor begins after a reset, as far as a system that goes there by itself is concerned: the last 16 bytes below
/// 1 MiB. Linux does so, in real-address mode, on a machine without ACPI's fixed hardware, where it counts on UEFI to reset
/// the machine and finds none (arch/x86/kernel/reboot.c). What is there asks for a reset.
public enum ResetEntry {
  static let address: UInt64 = 0xffff0

  /// Puts code there that writes `value` to `port`. The guest must not be running.
  public static func install(port: UInt16, value: UInt8, in memory: GuestMemory) {
    // mov dx, port; mov al, value; out dx, al; again: hlt; jmp again
    let code: [UInt8] = [0xba, UInt8(port & 0xff), UInt8(port >> 8), 0xb0, value, 0xee, 0xf4, 0xeb, 0xfd]
    memory.place(code, at: address)
  }
}
