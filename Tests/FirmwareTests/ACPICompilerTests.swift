import Foundation
import Memory
import Testing

@testable import Firmware

/// ACPICA's compiler takes the tables apart and puts them together again: what it finds wrong, a guest might.
@Suite struct ACPICompilerTests {
  private static let compiler = "/usr/bin/iasl"

  struct Machine: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let change: @Sendable (inout ACPIConfiguration) -> Void

    static let all = [
      Machine(testDescription: "the least") { $0.serialPortCount = 0 },
      Machine(testDescription: "a kernel's") { $0.hasGenerationIdentifier = true },
      Machine(testDescription: "firmware's") {
        $0 = ACPIConfiguration(processorCount: 64)
        $0.hasDisplay = true
        $0.hasFloppy = true
        $0.hasPanicPort = true
        $0.hasHighPrecisionTimer = true
        $0.hasGenerationIdentifier = true
        $0.serialPortCount = 2
        $0.fixedHardware.base = 0xb000
        $0.memoryWindow = 0x2000_0000...0xfebf_ffff
      },
      Machine(testDescription: "many processors") { $0 = ACPIConfiguration(processorCount: 300) },
    ]
  }

  private func run(_ arguments: [String], in folder: URL) throws -> (status: Int32, output: String) {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: Self.compiler)
    process.arguments = arguments
    process.currentDirectoryURL = folder
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }

  /// The source of a table, without what the disassembler says of itself.
  private func disassemble(_ name: String, in folder: URL) throws -> [Substring] {
    let run = try run(["-d", "\(name).aml"], in: folder)
    #expect(run.status == 0 && !run.output.contains("Error"), "\(name): \(run.output)")
    let text = try String(contentsOf: folder.appendingPathComponent("\(name).dsl"), encoding: .utf8)
    return text.split(separator: "\n").filter { !$0.hasPrefix(" *") }
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: compiler)), arguments: Machine.all)
  func tablesCompile(machine: Machine) throws {
    var configuration = ACPIConfiguration(processorCount: 2)
    machine.change(&configuration)
    let layout = ACPITableLayout(configuration, at: 0xe0000, identifierPage: 0xff000)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("acpi-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for range in layout.tables {
      let table = Array(layout.bytes[range])
      let name = String(decoding: table.prefix(4), as: UTF8.self)
      try Data(table).write(to: folder.appendingPathComponent("\(name).aml"))
      let source = try disassemble(name, in: folder)
      // QEMU's identifier of the generation device, which its drivers know, is not one that the compiler would choose.
      let compilation = try run(["-oa", "-vw", "6035", "-p", "again", "\(name).dsl"], in: folder)
      #expect(compilation.status == 0, "\(name): \(compilation.output)")
      if ["DSDT", "SSDT"].contains(name) {
        #expect(compilation.output.contains("0 Errors, 0 Warnings"), "\(name): \(compilation.output)")
        #expect(try disassemble("again", in: folder) == source)
      } else {
        // Who compiled it differs, and the sum with it.
        let again = try [UInt8](Data(contentsOf: folder.appendingPathComponent("again.aml")))
        #expect(again.dropFirst(36) == table.dropFirst(36), "\(name)")
      }
    }
  }
}
