import CHost
import Testing
import X86

@testable import Machine

@Suite struct CPUStateResetTests {
  @Test func powerUpValuesAreTheManuals() {
    var state = CPUState()
    state.gpr.0 = 1
    state.tscOffset = 99
    state.engine.budget = 3
    state.powerUp(isBootstrap: true)
    #expect(state.rip == 0xfff0 && state.rflags == 2 && state.cr0 == 0x6000_0010)
    #expect(state.segments.1.selector == 0xf000 && state.segments.1.base == 0xffff_0000)
    #expect(state.segments.1.attributes == 0x9b && state.segments.2.attributes == 0x93)
    #expect(state.tr.attributes == 0x8b && state.ldtr.attributes == 0x82)
    #expect(state.dr6 == 0xffff_0ff0 && state.dr7 == 0x400)
    #expect(state.gpr.0 == 0 && state.gpr.2 == 0x600)
    #expect(state.pat == 0x0007_0406_0007_0406 && state.xcr0 == 1)
    #expect(state.activity == .running && state.apicBase == 0xfee0_0900)
    #expect(state.tscOffset == 99 && state.engine.budget == 3)
    state.powerUp(isBootstrap: false)
    #expect(state.activity == .waitForSIPI && state.apicBase == 0xfee0_0800)
  }

  @Test func initKeepsWhatTheManualSaysItKeeps() {
    var state = CPUState()
    state.powerUp(isBootstrap: true)
    state.cr0 = CR0.pe | CR0.pg | CR0.cd
    state.efer = EFER.lme | EFER.lma
    state.lstar = 5
    state.nmiPending = 1
    state.interruptPending = 1
    state.rip = 1234
    state.initialize(isBootstrap: false)
    #expect(state.cr0 == CR0.cd | CR0.et && state.efer == 0 && state.lstar == 5)
    #expect(state.nmiPending == 0 && state.interruptPending == 0 && state.rip == 0xfff0)
    #expect(state.activity == .waitForSIPI)
    state.startUp(vector: 0x12)
    #expect(state.activity == .running && state.rip == 0 && state.segments.1.base == 0x12000)
  }
}
