import Glibc

/// Where the default guest is.
struct GuestFiles: Equatable {
  var kernel: String
  var initialRAMDisk: String

  /// Folder with `default` in it, by priority: $RINGSIDE_GUESTS, `.guests` here, and `.guests` in a folder above the
  /// program (which a build leaves in `.build/release` of the package).
  static func folders(environment: String?, executable: String?) -> [String] {
    var folders: [String] = []
    if let environment, !environment.isEmpty { folders.append(environment) }
    folders.append(".guests")
    var components = executable?.split(separator: "/").dropLast() ?? []
    while !components.isEmpty {
      folders.append("/" + components.joined(separator: "/") + "/.guests")
      components = components.dropLast()
    }
    return folders
  }

  /// Looks for the default guest.
  static func find() throws -> GuestFiles {
    let environment = getenv("RINGSIDE_GUESTS").map { String(cString: $0) }
    for folder in folders(environment: environment, executable: executablePath()) {
      let files = GuestFiles(kernel: folder + "/default/vmlinuz", initialRAMDisk: folder + "/default/initrd.gz")
      if access(files.kernel, F_OK) == 0, access(files.initialRAMDisk, F_OK) == 0 { return files }
    }
    throw CommandFailure(
      description: "the default guest is missing: there is no \(environment ?? ".guests")/default/vmlinuz; "
        + "make it with `make guest` in Ringside's folder, or name a kernel with --kernel")
  }

  private static func executablePath() -> String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    guard readlink("/proc/self/exe", &buffer, Int(PATH_MAX)) > 0 else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
