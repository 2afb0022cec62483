extension ACPITables {
  /// HPET description table (IA-PC HPET specification 1.0a, 3.2.4).
  static func highPrecisionTimer() -> [UInt8] {
    table("HPET", revision: 1) { body in
      // The block's capabilities: vendor Intel, legacy routes, 64-bit counter, three timers, revision 1.
      body.append(UInt32(0x8086_a201))
      // Memory, 64 bits wide.
      body.append([0, 64, 0, 0])
      body.append(UInt64(ACPIConfiguration.highPrecisionTimerAddress))
      // The first of its kind; shortest period in ticks for periodic interrupts; no protection of the page.
      body.append([0])
      body.append(UInt16(100))
      body.append([0])
    }
  }
}
