import CSilicon

// Shared memory comes as descriptor 3.
siliconServe(3)
