import Firmware
import Glibc

/// Where firmware is on this host: in the places where Debian's packages, and other systems', put it.
enum FirmwareLibrary {
  private static let folders = ["/usr/share/seabios", "/usr/share/qemu", "/usr/share/qemu-kvm"]

  /// SeaBIOS.
  static func bios() throws -> FirmwareImage {
    try FirmwareImage(BootFile(path: find(folders.map { $0 + "/bios-256k.bin" }, what: "SeaBIOS", package: "seabios")))
  }

  /// OVMF's code, and the variables that it starts with where there are none yet.
  static func uefi() throws -> (code: FirmwareImage, variables: [UInt8]) {
    let names = [("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd")]
    let folders = ["/usr/share/OVMF", "/usr/share/edk2/ovmf"]
    let pairs = folders.flatMap { folder in names.map { (folder + "/" + $0.0, folder + "/" + $0.1) } }
    let found = pairs.first { isReadable($0.0) && isReadable($0.1) }
    let code = try find(found.map { [$0.0] } ?? [pairs[0].0], what: "OVMF", package: "ovmf")
    let variables = try BootFile(path: found?.1 ?? pairs[0].1)
    return (
      try FirmwareImage(BootFile(path: code)),
      try variables.bytes(at: 0, count: Int(min(variables.size, FirmwareImage.limit)))
    )
  }

  /// The option ROM of the VGA; nil where the host has none. Firmware other than SeaBIOS does without.
  static func displayROM() throws -> [UInt8]? {
    guard let path = folders.map({ $0 + "/vgabios-stdvga.bin" }).first(where: isReadable) else { return nil }
    let file = try BootFile(path: path)
    return try file.bytes(at: 0, count: Int(min(file.size, FirmwareImage.limit)))
  }

  private static func isReadable(_ path: String) -> Bool { access(path, R_OK) == 0 }

  private static func find(_ paths: [String], what: String, package: String) throws -> String {
    if let path = paths.first(where: isReadable) { return path }
    throw CommandFailure(
      description: "\(what) is missing: there is no \(paths[0]); install Debian's package '\(package)', "
        + "or name a ROM image with --firmware FILE")
  }
}
