// swift-tools-version: 6.2
import PackageDescription

/// Every target: warnings are errors.
let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

/// Guest memory is asked for pages on every miss of a TLB, under the machine's lock or by the processor alone.
let unchecked: [SwiftSetting] = strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"])]

/// The software processor is optimised in debug builds too: its chains of tail calls are loops only then.
let hot: [SwiftSetting] =
  strict + [
    .unsafeFlags([
      "-O", "-enforce-exclusivity=unchecked", "-Xcc", "-momit-leaf-frame-pointer", "-Xllvm",
      "-swiftmergefunc-threshold=1000000",
    ])
  ]

let package = Package(
  name: "ringside",
  products: [.executable(name: "ringside", targets: ["program"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
  ],
  targets: [
    .target(name: "CHost", cSettings: [.define("_GNU_SOURCE"), .unsafeFlags(["-Wall", "-Werror"])]),
    .systemLibrary(name: "CZlib"),
    .systemLibrary(name: "CZstd"),
    .systemLibrary(name: "CZydis"),
    .target(
      name: "Host", dependencies: ["CHost"],
      swiftSettings: strict),
    .target(name: "Storage", dependencies: ["CHost", "CZlib", "CZstd", "Host"], swiftSettings: strict),
    .target(name: "X86", dependencies: ["CHost"], swiftSettings: strict),
    .target(name: "Memory", dependencies: ["CHost", "X86"], swiftSettings: unchecked),
    .target(
      name: "Machine",
      dependencies: [
        "CHost", "CZstd", "Host", "Memory", "Storage", "X86", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .target(
      name: "Processor", dependencies: ["CHost", "CZydis", "Host", "Machine", "Memory", "X86"], swiftSettings: hot),
    // Two engines on one guest, compared.
    .target(name: "Lockstep", dependencies: ["CHost", "CZydis", "Machine", "Memory", "X86"], swiftSettings: strict),
    // The silicon oracle: a fenced process that runs instructions on the host's own processor, and its test.
    .target(
      name: "CSilicon", path: "Tests/CSilicon",
      cSettings: [.unsafeFlags(["-Wall", "-Werror", "-O2", "-fno-stack-protector", "-mfsgsbase"])]),
    .executableTarget(
      name: "SiliconRunner", dependencies: ["CSilicon"], path: "Tests/SiliconRunner", swiftSettings: strict),
    .testTarget(
      name: "SiliconTests",
      dependencies: ["CHost", "CSilicon", "CZydis", "Machine", "Memory", "Processor", "SiliconRunner", "X86"],
      swiftSettings: strict),
    .target(
      name: "Devices",
      dependencies: ["CHost", "Machine", "Memory", "X86", .product(name: "Logging", package: "swift-log")],
      swiftSettings: strict),
    .target(name: "Firmware", dependencies: ["CHost", "Machine", "Memory", "X86"], swiftSettings: strict),
    // All of the program but its entry point, so that tests can have it.
    .target(
      name: "ringside",
      dependencies: [
        "CHost", "Devices", "Firmware", "Host", "Lockstep", "Machine", "Memory", "Processor", "Storage", "X86",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    // Swift's libraries are in the program: to find and relocate them took more than half of its start.
    .executableTarget(
      name: "program", dependencies: ["ringside"], swiftSettings: strict,
      linkerSettings: [
        .unsafeFlags(["-static-stdlib"]), .linkedLibrary("_FoundationCollections"),
        .linkedLibrary("_FoundationCShims"),
      ]),
    .target(
      name: "TestSupport",
      dependencies: [
        "CHost", "Host", "Machine", "Memory", "Storage", "X86", .product(name: "Logging", package: "swift-log"),
      ],
      path: "Tests/TestSupport", swiftSettings: strict),
    // Random guests on the engine, for `make fuzz`; its test runs a few of them.
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "CHost", "CZydis", "Devices", "Host", "Machine", "Memory", "Processor", "Storage", "TestSupport", "X86",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      path: "Fuzz", swiftSettings: strict),
    .testTarget(name: "FuzzTests", dependencies: ["fuzz"], swiftSettings: strict),
    .testTarget(
      name: "DevicesTests", dependencies: ["CHost", "Devices", "Machine", "Memory", "TestSupport", "X86"],
      swiftSettings: strict),
    .testTarget(
      name: "FirmwareTests", dependencies: ["CHost", "Firmware", "Memory", "TestSupport", "X86"], swiftSettings: strict),
    .testTarget(name: "HostTests", dependencies: ["CHost", "Host", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "LockstepTests",
      dependencies: [
        "CHost", "CZydis", "Lockstep", "Machine", "Memory", "X86", .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(
      name: "MachineTests",
      dependencies: [
        "CHost", "Host", "Machine", "Memory", "Storage", "TestSupport", "X86",
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
    .testTarget(name: "MemoryTests", dependencies: ["Memory", "X86"], swiftSettings: strict),
    .testTarget(
      name: "ProcessorTests",
      dependencies: ["CHost", "CZydis", "Host", "Machine", "Memory", "Processor", "TestSupport", "X86"],
      swiftSettings: strict),
    .target(name: "CSpawn", path: "Tests/CSpawn", cSettings: [.define("_GNU_SOURCE")]),
    .testTarget(name: "GuestTests", dependencies: ["CSpawn"], swiftSettings: strict),
    .testTarget(
      name: "StorageTests", dependencies: ["CHost", "Host", "Storage", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "RingsideTests",
      dependencies: [
        "CHost", "Devices", "Firmware", "Host", "Machine", "Memory", "Processor", "TestSupport", "ringside",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)
