# Writes version, commit, build type and libraries into core/version.cpp. Configures again when the commit changes.
set(MINIBERT_GIT_COMMIT unknown)
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${CMAKE_CURRENT_SOURCE_DIR} describe --always --dirty=+ --exclude=*
                  OUTPUT_VARIABLE git_commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(git_commit)
    set(MINIBERT_GIT_COMMIT ${git_commit})
  endif()
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/.git/logs/HEAD)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/.git/logs/HEAD)
  endif()
endif()
set_property(SOURCE ${CMAKE_CURRENT_SOURCE_DIR}/core/version.cpp PROPERTY COMPILE_DEFINITIONS
             "MINIBERT_VERSION=\"${MINIBERT_VERSION}\"" "MINIBERT_GIT_COMMIT=\"${MINIBERT_GIT_COMMIT}\""
             "MINIBERT_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\"" "MINIBERT_LIBRARIES=\"${MINIBERT_USES_TEXT}\"")
