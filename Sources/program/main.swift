import ringside

// The program. All of it is in `ringside`, so that tests can look at it.
Ringside.main()
