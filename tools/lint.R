# Prints what lintr finds in the package and fails if that is anything.
lints <- lintr::lint_package()
print(lints)
quit(status = as.integer(length(lints) > 0))
