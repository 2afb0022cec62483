/// Guests that write pseudo-random values wherever something may answer, and read it back.
enum GuestStorms {
  /// Ports that can end the run: debug exit, keyboard controller command (reset), system control port A, reset control,
  /// PM1 control (power-off).
  static let endingPorts: [ClosedRange<UInt32>] = [0xf4...0xf7, 0x64...0x64, 0x92...0x92, 0xcf9...0xcf9, 0x604...0x605]

  /// Every port but those that can end the run, in sizes 1, 2 and 4, then PCI configuration space.
  static func ports(seed: UInt32) -> GuestAssembler {
    GuestAssembler { guest in
      guest.mov(.ebx, seed)
      for size in [1, 2, 4] {
        guest.loop(.ecx, from: 0, through: 0xffff) { guest in
          let next = guest.makeLabel()
          for range in endingPorts {
            // An access at a lower port may reach the range.
            guest.skip(.ecx, range.lowerBound - UInt32(size - 1), range.upperBound, to: next)
          }
          guest.writeAndRead(size: size)
          guest.place(next)
        }
      }
      guest.loop(.ecx, from: 0, through: 20_000) { guest in
        guest.random()
        // Bus 0, where the devices are.
        guest.and(.eax, 0x0000_fffc)
        guest.or(.eax, 0x8000_0000)
        guest.mov(.edx, 0xcf8)
        guest.out(size: 4)
        guest.random()
        guest.mov(.edx, 0xcfc)
        guest.out(size: 4)
        guest.in(size: 4)
      }
      guest.exit(42)
    }
  }

  /// The registers of the local and I/O APICs, in sizes 1, 2 and 4 and at odd addresses. What could send an INIT or an
  /// SMI (delivery modes other than fixed) is left out.
  static func interruptControllers(seed: UInt32) -> GuestAssembler {
    GuestAssembler { guest in
      guest.mov(.ebx, seed)
      for (size, step) in [(4, 4), (4, 1), (2, 1), (1, 1)] as [(Int, UInt32)] {
        for base in [0xfee0_0000, 0xfec0_0000] as [UInt32] {
          guest.mov(.edi, base)
          let again = guest.here()
          guest.random()
          // Delivery mode fixed, whichever byte of a register this is.
          guest.and(.eax, 0xf8f8_f8f8)
          guest.movToMemory(size: size)
          guest.movFromMemory(size: size)
          guest.add(.edi, step)
          guest.cmp(.edi, base + 0xfff)
          guest.jmp(.belowOrEqual, again)
        }
      }
      // The I/O APIC's registers proper, through its window.
      guest.loop(.ecx, from: 0, through: 0xff) { guest in
        guest.mov(.edi, 0xfec0_0000)
        guest.mov(.eax, .ecx)
        guest.movToMemory(size: 4)
        guest.mov(.edi, 0xfec0_0010)
        guest.random()
        guest.and(.eax, 0xffff_f8ff)
        guest.movToMemory(size: 4)
        guest.movFromMemory(size: 4)
      }
      guest.exit(43)
    }
  }

  /// Random accesses of any size to any port and any place from 3 GiB on, for as long as the machine lives.
  static func anything(seed: UInt32) -> GuestAssembler {
    GuestAssembler { guest in
      guest.mov(.ebx, seed)
      let again = guest.here()
      for size in [1, 2, 4] {
        guest.random()
        guest.mov(.ecx, .eax)
        guest.writeAndRead(size: size)
        guest.random()
        guest.or(.eax, 0xc000_0000)
        guest.mov(.edi, .eax)
        guest.random()
        guest.movToMemory(size: size)
        guest.movFromMemory(size: size)
        // Half of the accesses go to the interrupt controllers' pages.
        guest.and(.edi, 0x0020_0fff)
        guest.or(.edi, 0xfec0_0000)
        guest.random()
        guest.movToMemory(size: size)
        guest.movFromMemory(size: size)
      }
      guest.jmp(again)
    }
  }
}

extension GuestAssembler {
  /// Jumps to `label` if `register` is within `first` … `last`.
  fileprivate mutating func skip(_ register: Register, _ first: UInt32, _ last: UInt32, to label: Label) {
    let outside = makeLabel()
    cmp(register, first)
    jmp(.below, outside)
    cmp(register, last)
    jmp(.belowOrEqual, label)
    place(outside)
  }

  /// Writes a random value to port CX and reads it back.
  fileprivate mutating func writeAndRead(size: Int) {
    random()
    mov(.edx, .ecx)
    out(size: size)
    self.in(size: size)
  }
}
