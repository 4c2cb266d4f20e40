# Prints what lintr finds in the package and fails if that is anything. Attached packages are those
# whose functions the tests use.
library(testthat)
library(patina)
lints <- lintr::lint_package()
print(lints)
quit(status = as.integer(length(lints) > 0))
