# minibert_floor(core DEPENDS ...): a static library minibert_core from every .cpp under core/, linked only to the floors
# it may see (tools/check_layers proves the same from the includes). Files named *_simd.cpp are compiled once per
# instruction set, into namespaces of their own (core/simd.h), and chosen at run time.
set(MINIBERT_SIMD_LEVELS "v2" "v3" "v4")
set(MINIBERT_SIMD_FLAGS_v2 -march=x86-64-v2)
set(MINIBERT_SIMD_FLAGS_v3 -march=x86-64-v3)
set(MINIBERT_SIMD_FLAGS_v4 -march=x86-64-v4 -mprefer-vector-width=512)

function(minibert_floor name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  set(target minibert_${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp)
  set(simd_sources ${sources})
  list(FILTER simd_sources INCLUDE REGEX "_simd\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_simd\\.cpp$")
  if(NOT sources)
    return()  # TEMPORARY
  endif()
  add_library(${target} STATIC ${sources})
  add_library(minibert::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}>
                                              $<INSTALL_INTERFACE:include/minibert>)
  foreach(dependency ${ARG_DEPENDS})
    if(TARGET minibert_${dependency})
      target_link_libraries(${target} PUBLIC minibert_${dependency})
    elseif(TARGET ${dependency})
      target_link_libraries(${target} PUBLIC ${dependency})
    endif()
  endforeach()
  if(simd_sources)
    foreach(level ${MINIBERT_SIMD_LEVELS})
      add_library(${target}_${level} OBJECT ${simd_sources})
      target_include_directories(${target}_${level} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${HIGHWAY_INCLUDE_DIR})
      target_compile_options(${target}_${level} PRIVATE ${MINIBERT_SIMD_FLAGS_${level}} -ffp-contract=off)
      target_compile_definitions(${target}_${level} PRIVATE MB_SIMD_NAMESPACE=simd_${level} HWY_COMPILE_ONLY_STATIC
                                 HWY_DISABLE_PCLMUL_AES)  # else Highway stops at SSSE3: the levels lack those two
      target_link_libraries(${target}_${level} PRIVATE minibert_dependencies_core)
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${level}>)
    endforeach()
  endif()
endfunction()
