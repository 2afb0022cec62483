import ArgumentParser
import Machine

extension FailureResponse: ExpressibleByArgument {}
