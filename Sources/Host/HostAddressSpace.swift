/// The host's page size in bytes. Ringside runs on x86-64 only.
public let hostPageSize = 4096
