# Defines the target OpenBLAS::OpenBLAS in the same way on every system. OpenBLAS's own package
# config would not do: Debian's defines no target, Fedora ships none, and it contains the paths of
# the machine on which it was made. This file is also installed beside descentConfig.cmake, because
# a program that links a static descent needs it.
find_path(OpenBLAS_INCLUDE_DIR openblas_config.h HINTS ENV OPENBLAS_HOME
          PATH_SUFFIXES include openblas openblas-pthread openblas-openmp openblas-serial)
find_library(OpenBLAS_LIBRARY NAMES openblas openblasp HINTS ENV OPENBLAS_HOME
             PATH_SUFFIXES lib openblas-pthread openblas-openmp openblas-serial)
mark_as_advanced(OpenBLAS_INCLUDE_DIR OpenBLAS_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenBLAS REQUIRED_VARS OpenBLAS_LIBRARY OpenBLAS_INCLUDE_DIR)

if(OpenBLAS_FOUND AND NOT TARGET OpenBLAS::OpenBLAS)
  add_library(OpenBLAS::OpenBLAS UNKNOWN IMPORTED)
  set_target_properties(OpenBLAS::OpenBLAS PROPERTIES
    IMPORTED_LOCATION "${OpenBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${OpenBLAS_INCLUDE_DIR}")
endif()
