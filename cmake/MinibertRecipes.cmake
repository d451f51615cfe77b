# Embeds recipes/*.toml into the models floor, so that `minibert train --recipe NAME` needs no file beside the binary.
# Regenerated at the next build when a recipe changes.
file(GLOB recipe_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/recipes/*.toml)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${recipe_files})
set(MINIBERT_RECIPES "")
foreach(file ${recipe_files})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  string(APPEND MINIBERT_RECIPES "    {\"${name}\", R\"recipe(${text})recipe\"},\n")
endforeach()
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/models/training/recipes.cpp.in ${CMAKE_BINARY_DIR}/generated/recipes.cpp @ONLY)
target_sources(minibert_models_training PRIVATE ${CMAKE_BINARY_DIR}/generated/recipes.cpp)
