# Runs testthat on the installed package and writes "passed failed skipped" to the file named by the
# first argument. Called by tools/test.sh.
counts_file <- commandArgs(TRUE)[1]
Sys.setenv(NOT_CRAN = "true")
library(patina)
results <- testthat::test_dir(
  "tests/testthat",
  package = "patina",
  load_package = "installed",
  reporter = "summary",
  stop_on_failure = FALSE
)
results <- as.data.frame(results)
seconds <- sort(tapply(results$user + results$system, results$file, sum), decreasing = TRUE)
cat(sprintf("\nProcessor time: %.0f s; the slowest files:\n", sum(seconds)))
cat(sprintf("%6.1f %s\n", head(seconds, 5), names(head(seconds, 5))), sep = "")
counts <- c(sum(results$passed), sum(results$failed) + sum(results$error), sum(results$skipped))
cat(counts, file = counts_file)
