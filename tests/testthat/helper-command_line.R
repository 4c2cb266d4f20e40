# The command line on a small tissue.

# As a user runs it: in a process of its own.
run_patina <- function(...) {
  script <- system.file("exec", "patina", package = "patina")
  stderr <- withr::local_tempfile()
  stdout <- suppressWarnings(withr::with_envvar(
    c(R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep)),
    system2(
      file.path(R.home("bin"), "Rscript"),
      shQuote(c(script, ...)),
      stdout = TRUE,
      stderr = stderr
    )
  ))
  list(
    status = attr(stdout, "status") %||% 0L,
    stdout = as.character(stdout),
    stderr = readLines(stderr)
  )
}


# The same in this process, which is faster.
run_here <- function(...) {
  stderr <- utils::capture.output(status <- run_command_line(c(...)), type = "message")
  list(status = status, stderr = stderr)
}


# A tissue of 6 x 6 spots as files; the first gene follows x.
local_tissue <- function(env = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = env)
  withr::local_seed(1)
  spots <- expand.grid(x = 1:6, y = 1:6)
  counts <- cbind(gradient = 5 * spots$x, matrix(rpois(36 * 19, 20), 36))
  colnames(counts)[-1] <- paste0("gene", 2:20)
  rownames(spots) <- rownames(counts) <- paste0(spots$x, "x", spots$y)
  utils::write.csv(counts, file.path(folder, "counts.csv"))
  utils::write.csv(cbind(depth = 1, spots), file.path(folder, "spots.csv"))
  list(folder = folder, counts = counts, spots = spots, path = \(name) file.path(folder, name))
}


expect_refused <- function(run, message) {
  expect_identical(run$status, 2L)
  expect_length(run$stderr, 1L)
  expect_match(run$stderr, message)
}
