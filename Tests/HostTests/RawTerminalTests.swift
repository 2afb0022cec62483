import CHost
import Glibc
import Host
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct RawTerminalTests {
  @Test func otherDescriptorsAreNoTerminals() {
    let pipe = Pipe()
    #expect(RawTerminal(descriptor: pipe.readEnd) == nil)
  }

  @Test func rawModePassesEveryKeyAndKeepsNewLines() throws {
    let pseudo = try #require(PseudoTerminal())
    let terminal = try #require(RawTerminal(descriptor: pseudo.terminal))
    try terminal.enter()
    #expect(pseudo.settings.c_lflag & tcflag_t(ECHO | ICANON | ISIG | IEXTEN) == 0)
    #expect(pseudo.settings.c_iflag & tcflag_t(IXON | ICRNL) == 0)
    #expect(pseudo.settings.c_oflag & tcflag_t(OPOST | ONLCR) == tcflag_t(OPOST | ONLCR))
    try terminal.enter()
    terminal.leave()
    terminal.leave()
  }

  @Test func guardRestoresWhenItsParentDies() throws {
    let pseudo = try #require(PseudoTerminal())
    var saved = pseudo.settings
    var started = HostTerminalGuard()
    try #require(hostTerminalGuardStart(pseudo.terminal, &saved, &started) == 0)
    var raw = saved
    raw.c_lflag = 0
    tcsetattr(pseudo.terminal, TCSANOW, &raw)
    #expect(pseudo.settings.c_lflag == 0)
    // What the kernel does for a process that dies.
    close(started.trigger)
    var status: Int32 = 0
    waitpid(started.process, &status, 0)
    #expect(pseudo.settings.c_lflag == saved.c_lflag)
  }
}
