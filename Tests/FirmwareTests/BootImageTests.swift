import Testing

@testable import Firmware

@Suite struct BootImageTests {
  private func problem(_ bytes: [UInt8]) -> BootFailure.Problem? {
    do throws(BootFailure) {
      _ = try BootImage.identify(bytes, name: "some/kernel")
      return nil
    } catch {
      #expect(error.description.hasPrefix("some/kernel: "))
      return error.problem
    }
  }

  /// `image` with other bytes at `offset`.
  private func patched(_ image: [UInt8], _ offset: Int, _ bytes: UInt8...) -> [UInt8] {
    var image = image
    image.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    return image
  }

  @Test func recognisesLinux() throws {
    let image = SyntheticImage.linux(kernelSize: 0x3000, initSize: 0x1000, commandLineLimit: 2047)
    guard case .linux(let header) = try BootImage.identify(image, name: "k") else {
      Issue.record("not Linux")
      return
    }
    #expect(header.version == 0x020f && header.kernelOffset == 1024 && header.kernelSize == 0x3000)
    #expect(header.initSize == 0x3000)
    #expect(header.isRelocatable && header.is64Bit && header.preferredAddress == 0x20_0000)
    #expect(header.commandLineLimit == 2047 && header.ramDiskAddressMax == 0x7fff_ffff)
    #expect(header.bytes.count == 0x202 + 0x6a - 0x1f1)
  }

  @Test func extendedFlagsCountFromTheirVersionOn() throws {
    guard case .linux(let header) = try BootImage.identify(SyntheticImage.linux(version: 0x020b), name: "k") else {
      Issue.record("not Linux")
      return
    }
    #expect(!header.is64Bit)
  }

  @Test(arguments: [false, true]) func recognisesPVH(is64Bit: Bool) throws {
    let file = SyntheticImage.elf(is64Bit: is64Bit)
    guard case .pvh(let image, let entry) = try BootImage.identify(file, name: "k") else {
      Issue.record("not PVH")
      return
    }
    #expect(entry == 0x20_0010 && image.noteEntry == entry && image.entry == 0x20_0020)
    #expect(image.segments.map(\.memory) == [0x20_0000..<0x20_2000])
    #expect(image.segments.map(\.fileSize) == [0x1000] && image.segments.map(\.fileOffset) == [0x200])
  }

  @Test func namesWhatIsNoKernel() {
    #expect(problem([]) == .empty)
    #expect(problem([0]) == .notAKernel(found: nil))
    #expect(problem([UInt8](repeating: 0x5a, count: 70_000)) == .notAKernel(found: nil))
    #expect(problem([0x1f, 0x8b, 8, 0]) == .notAKernel(found: "a gzip file"))
    #expect(problem(SyntheticImage.ramDisk(600)) == .notAKernel(found: "a cpio archive"))
    #expect(problem(Array("#!/bin/sh\n".utf8)) == .notAKernel(found: "a script"))
    var disk = [UInt8](repeating: 0, count: 4096)
    disk[0x1fe] = 0x55
    disk[0x1ff] = 0xaa
    #expect(problem(disk) == .notAKernel(found: "a disk image or boot sector"))
    var disc = [UInt8](repeating: 0, count: 0x9000)
    disc.replaceSubrange(0x8001..<0x8006, with: "CD001".utf8)
    #expect(problem(disc) == .notAKernel(found: "an ISO 9660 (CD) image"))
  }

  @Test func refusesBadLinuxHeaders() {
    let image = SyntheticImage.linux()
    #expect(problem(image) == nil)
    #expect(problem(SyntheticImage.linux(version: 0x0209)) == .oldProtocol(0x0209))
    #expect(problem(patched(image, 0x211, 0)) == .notHighLoaded)
    #expect(problem(SyntheticImage.linux(alignment: 3)) == .malformed("its alignment is 0x3"))
    #expect(problem(SyntheticImage.linux(alignment: 0)) == .malformed("its alignment is 0x0"))
    #expect(problem(patched(image, 0x1fe, 0)) == .malformed("its boot sector has no 0xaa55 at its end"))
    #expect(problem(patched(image, 0x201, 0xff)) == .malformed("its setup header ends at 0x301"))
    #expect(problem(patched(image, 0x201, 0x10)) == .malformed("its setup header ends at 0x212"))
    #expect(problem(patched(image, 0x1f4, 0, 0, 0, 0)) == .malformed("it says that its kernel has no bytes"))
    #expect(
      problem(SyntheticImage.linux(kernelSize: 0x200)) == .malformed("its kernel ends before its 64-bit entry point"))
    // The last paragraph may be short, not more.
    #expect(problem(Array(image.dropLast(15))) == nil)
    #expect(problem(Array(image.dropLast(16))) == .truncated(needs: UInt64(image.count), has: UInt64(image.count - 16)))
    // Zero setup sectors stand for four.
    #expect(problem(patched(image, 0x1f1, 0)) == .truncated(needs: 2560 + 0x4000, has: UInt64(image.count)))
  }

  @Test(arguments: [false, true]) func refusesBadELFHeaders(is64Bit: Bool) {
    let image = SyntheticImage.elf(is64Bit: is64Bit)
    let headers = is64Bit ? 0x40 : 0x34
    #expect(problem(image) == nil)
    #expect(problem(SyntheticImage.elf(is64Bit: is64Bit, hasNote: false)) == .noEntryNote)
    #expect(problem(patched(image, 0x12, 183, 0)) == .foreignELF(machine: 183))
    #expect(problem(patched(image, 5, 2)) == .foreignELF(machine: nil))
    #expect(
      problem(patched(image, is64Bit ? 0x38 : 0x2c, 0, 0))
        == .malformed("its ELF header describes no program headers"))
    #expect(
      problem(SyntheticImage.elf(is64Bit: is64Bit, entry: 0x30_0000))
        == .malformed("its entry point 0x300000 is in none of its segments"))
    // More in the file than in memory.
    #expect(
      problem(patched(image, headers + (is64Bit ? 0x20 : 0x10), 0, 0x30))
        == .malformed("a segment is larger than its memory"))
  }

  @Test func everyTruncationIsAnError() {
    for image in [SyntheticImage.linux(), SyntheticImage.elf(is64Bit: true), SyntheticImage.elf(is64Bit: false)] {
      for count in stride(from: 0, to: image.count - 15, by: 13) {
        #expect(problem(Array(image.prefix(count))) != nil)
      }
    }
  }

  @Test func messagesSayWhatWouldBeRight() {
    func text(_ problem: BootFailure.Problem) -> String { BootFailure("f", problem).description }
    #expect(text(.cannotOpen(errno: 2)) == "f: cannot be opened: No such file or directory")
    #expect(
      text(.notAKernel(found: "a gzip file")).hasPrefix("f: is not a kernel but a gzip file; give a Linux bzImage"))
    #expect(text(.oldProtocol(0x0204)).contains("2.4, which is too old"))
    #expect(
      text(.kernelDoesNotFit(needs: 40 << 20, has: 16 << 20))
        == "f: needs 40 MiB of memory to start and the guest has 16 MiB that it can use; give the guest more memory")
    #expect(
      text(.ramDiskDoesNotFit(size: (5 << 20) + 1, room: 4096)).contains("has 6 MiB and there is room for 4096 bytes"))
  }
}
