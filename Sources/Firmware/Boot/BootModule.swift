/// A file that is handed to a kernel beside the kernel itself: an initial RAM disk, or a multiboot module.
public struct BootModule {
  public var file: BootFile
  /// What follows the file's name on the module's command line. Linux gets no such thing.
  public var arguments: String

  public init(_ file: BootFile, arguments: String = "") {
    self.file = file
    self.arguments = arguments
  }

  /// The command line, which by convention begins with the file's name.
  var commandLine: String { arguments.isEmpty ? file.name : file.name + " " + arguments }
}
