import Testing

@testable import Devices

@Suite struct ScalingTests {
  @Test func roundsDownAndUp() {
    #expect(scale(10, by: 1, over: 3) == 3)
    #expect(scaleUp(10, by: 1, over: 3) == 4)
    #expect(scaleUp(9, by: 1, over: 3) == 3)
    #expect(scale(0, by: .max, over: 1) == 0)
  }

  @Test func saturates() {
    #expect(scale(.max, by: .max, over: 1) == .max)
    #expect(scaleUp(.max, by: 3, over: 2) == .max)
    #expect(scale(.max, by: 1_193_182, over: 1_000_000_000) == 22_010_322_987_356_910)
  }
}
