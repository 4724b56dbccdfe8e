# The toolchain of the preset arm64: Debian's cross compiler, and qemu, which runs what it makes.
# gcc itself looks for libraries where Debian puts those of arm64, and for headers in /usr/include.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CXX_FLAGS_INIT -Wno-psabi)  # notes on how gcc before 10 passed arguments
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64)
