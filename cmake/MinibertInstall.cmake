# install: bin/minibert, the floors as static libraries, headers under include/minibert, and find_package(minibert).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(floors core autograd nn optim models)
list(TRANSFORM floors PREPEND minibert_)
install(TARGETS minibert RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
