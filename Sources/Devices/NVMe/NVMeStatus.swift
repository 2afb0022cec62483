/// How a command ended: status code type and status code, as they stand in a completion above the phase bit (NVMe 1.4,
/// 4.6.1). Errors that would come again by a repetition say so (DNR).
enum NVMeStatus: UInt16 {
  case success = 0
  case invalidOpcode = 0x4001
  case invalidField = 0x4002
  case dataTransferError = 0x0004
  case internalError = 0x0006
  case invalidNamespace = 0x400b
  case invalidPageOffset = 0x4013
  case outOfRange = 0x4080
  case capacityExceeded = 0x4081
  case invalidCompletionQueue = 0x4100
  case invalidQueueIdentifier = 0x4101
  case invalidQueueSize = 0x4102
  case tooManyEventRequests = 0x4105
  case invalidVector = 0x4108
  case invalidLogPage = 0x4109
  case invalidQueueDeletion = 0x410c
  case writeFault = 0x0280
  case unrecoveredReadError = 0x0281
  case readOnly = 0x4182
}
