# install: bin/minibert, the floors as static libraries, headers under include/minibert, and find_package(minibert).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
get_property(floors GLOBAL PROPERTY MINIBERT_FLOORS)
install(TARGETS minibert RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ${floors} minibert_dependencies_core minibert_dependencies_text minibert_dependencies_dist
        EXPORT minibert ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(folder core autograd dist nn optim models)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/minibert FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT minibert NAMESPACE minibert:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/minibert FILE minibert-targets.cmake)
configure_package_config_file(${CMAKE_CURRENT_SOURCE_DIR}/cmake/minibert-config.cmake.in ${CMAKE_BINARY_DIR}/minibert-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/minibert)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/minibert-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/minibert-config.cmake ${CMAKE_BINARY_DIR}/minibert-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/minibert)
