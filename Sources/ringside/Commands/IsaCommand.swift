import ArgumentParser
import Host
import Processor

struct IsaCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "isa", abstract: "Prints what the instruction tables know.",
    discussion: """
      For an instruction: its forms, what carries each of them out, which feature it needs and which processor models \
      offer it. Names are those of Intel's syntax: 'movzx', 'jnz', 'iretq', 'vaddpd'.

      Examples:
        ringside isa popf
        ringside isa --sensitive
      """)

  @Argument(help: ArgumentHelp("Instruction to describe.", valueName: "instruction"))
  var instruction: String?

  @Flag(help: "List x86's sensitive but unprivileged instructions, and how each engine handles them.")
  var sensitive = false

  func validate() throws {
    guard sensitive != (instruction != nil) else {
      throw ValidationError("give either an instruction, such as 'popf', or --sensitive")
    }
  }

  func run() throws {
    guard let instruction else {
      return try reportingFailures { try StandardDescriptors.write(InstructionReport.sensitive) }
    }
    guard let description = InstructionCatalogue.describe(instruction) else {
      throw ValidationError(
        "no instruction is called '\(instruction)': names are those of Intel's syntax, such as 'mov', 'jnz', 'vaddpd'")
    }
    try reportingFailures { try StandardDescriptors.write(InstructionReport.text(description)) }
  }
}
