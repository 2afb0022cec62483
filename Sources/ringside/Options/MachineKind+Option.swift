import ArgumentParser

extension MachineKind: ExpressibleByArgument {}
