import ArgumentParser
import Host

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Tells what this computer offers to virtual machines.")

  func run() throws {
    try reportingFailures { try StandardDescriptors.write(DoctorReport.make().text) }
  }
}
