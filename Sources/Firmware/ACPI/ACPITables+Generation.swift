/// The virtual machine generation identifier (Microsoft, "Virtual Machine Generation ID"; QEMU, docs/specs/vmgenid): 16
/// bytes of memory that differ whenever the machine goes on from a saved state, and an event when they have changed.
extension ACPITables {
  /// The page that has the identifier.
  public static let identifierPageSize: UInt64 = 4096
  /// Where the identifier is in its page. What is before it stays zero, so that nobody takes the page for a table.
  public static let identifierOffset: UInt64 = 40
  /// The general-purpose event that says that the identifier has changed.
  public static let identifierEvent = 5

  /// Where the page is in a machine without firmware: the last one below 1 MiB.
  static let identifierPage = area.upperBound - identifierPageSize

  /// The address of the identifier in a machine without firmware.
  public static var identifierAddress: UInt64 { identifierPage + identifierOffset }

  /// Where `generationDescription` has the page's address, in four bytes.
  static let identifierPointerOffset = headerSize + 7

  /// SSDT: the device, with its page at `page`.
  static func generationDescription(page: UInt32) -> [UInt8] {
    let address = AMLTerm.reference("\\VGIA")
    let result = AMLTerm.local(0)
    let terms: [AMLTerm] = [
      // The first of all, so that its place is known.
      .name("\\VGIA", .doubleword(page)),
      .scope(
        "\\_SB",
        [
          .device(
            "VGEN",
            [
              .name("_HID", .string("QEMUVGID")),
              .name("_CID", .string("VM_Gen_Counter")),
              .name("_DDN", .string("VM_Gen_Counter")),
              .method(
                "_STA", arguments: 0, [.conditional(address, [.returned(.integer(0xf))]), .returned(.integer(0))]),
              // Both halves of the address.
              .method(
                "ADDR", arguments: 0,
                [
                  .store(.package([.integer(0), .integer(0)]), to: result),
                  .store(.add(address, .integer(identifierOffset)), to: .element(result, 0)),
                  .returned(result),
                ]),
            ])
        ]),
      .method("\\_GPE._E05", arguments: 0, [.notify("\\_SB.VGEN", 0x80)]),
    ]
    return definitionBlock("SSDT", revision: 1, terms)
  }
}
