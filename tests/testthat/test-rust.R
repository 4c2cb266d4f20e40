# The gate to Rust: errors and interrupts.

test_that("errors of the core get a class", {
  expect_error(abort_rust("[unsupported] 9 locations", NULL), "9 loc", class = "patina_error_approximation")
  expect_error(abort_rust("[argument] level is 2", NULL), "level is 2", class = "patina_error_argument")
  expect_error(abort_rust("[file] full disk", NULL), "full disk", class = "patina_error_file")
  expect_error(abort_rust("[timeout] late", NULL), "setTimeLimit", class = "patina_error_timeout")
  expect_error(abort_rust("[0, 1] is an interval", NULL), "[0, 1]", class = "patina_error_rust", fixed = TRUE)
})

test_that("a time limit is an error, in the preparation as in the fit", {
  skip_on_cran()
  limited <- function(y, coords, ...) {
    on.exit(setTimeLimit())
    setTimeLimit(elapsed = 0.3, transient = TRUE)
    spatial_test(y, coords, normalization = "none", threads = 1, progress = FALSE, ...)
  }
  # R's own words where the limit meets R code, this package's where it meets Rust
  late <- "elapsed time limit|setTimeLimit"
  coords <- expand.grid(x = 1:40, y = 1:40)
  expect_error(
    limited(rbind(sin(coords$x)), coords, approximation = "exact"),
    late
  )
  withr::local_options(patina.block_genes = 1e5)
  # few spots, so that the time is spent on genes
  some <- expand.grid(x = 1:10, y = 1:10)
  y <- withr::with_seed(1, matrix(rnorm(8e6), 8e4))
  expect_error(limited(y, some), late)
})

# Runs code in an R of its own, interrupts it some seconds after its setup as Ctrl-C does, and waits for its
# end. Returns how the code ended, and after how many seconds.
interrupt_after <- function(seconds, setup, code, frame = parent.frame()) {
  folder <- withr::local_tempdir(.local_envir = frame)
  path <- \(name) file.path(folder, name)
  wait_for <- function(file, most) {
    until <- Sys.time() + most
    while (!file.exists(file) && Sys.time() < until) {
      Sys.sleep(0.05)
    }
    file.exists(file)
  }
  run <- bquote({
    library(patina)
    .(setup)
    file.create(.(path("starting")))
    end <- tryCatch(
      {
        .(code)
        "finished"
      },
      interrupt = function(cnd) "interrupt",
      error = conditionMessage
    )
    writeLines(end, .(path("writing")))
    file.rename(.(path("writing")), .(path("end")))
  })
  pid_line <- sprintf("writeLines(as.character(Sys.getpid()), '%s')", path("pid"))
  writeLines(c(pid_line, deparse(run)), path("run.R"))
  # Not by system2(wait = FALSE): a shell's background process ignores Ctrl-C, and R (>= 4.5) leaves it so.
  command <- paste("exec", shQuote(file.path(R.home("bin"), "Rscript")), path("run.R"), ">/dev/null 2>&1")
  process <- withr::with_envvar(
    c(R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = ""),
    pipe(command, "r")
  )
  withr::defer(close(process))
  expect_true(wait_for(path("starting"), 60))
  pid <- as.integer(readLines(path("pid")))
  withr::defer(tools::pskill(pid, 9))
  Sys.sleep(seconds)
  expect_false(file.exists(path("end")))
  tools::pskill(pid, tools::SIGINT)
  sent <- Sys.time()
  expect_true(wait_for(path("end"), 60))
  list(end = readLines(path("end")), seconds = as.numeric(Sys.time() - sent, units = "secs"))
}

test_that("an interrupt ends a long preparation at once, as an interrupt", {
  skip_on_cran()
  skip_on_os("windows")
  run <- interrupt_after(
    2,
    quote({
      coords <- expand.grid(x = 1:80, y = 1:50)
      y <- rbind(a = sin(coords$x), b = cos(coords$y))
    }),
    quote(spatial_test(y, coords, normalization = "none", approximation = "exact", threads = 2))
  )
  expect_identical(run$end, "interrupt")
  expect_lt(run$seconds, 5)
})

test_that("an interrupt ends one long call that fits genes", {
  skip_on_cran()
  skip_on_os("windows")
  run <- interrupt_after(
    2,
    quote({
      options(patina.block_genes = 1e5)
      coords <- expand.grid(x = 1:40, y = 1:20)
      y <- matrix(rnorm(8e5), 3e4, 800)
    }),
    quote(spatial_test(y, coords, normalization = "none", threads = 1, progress = FALSE))
  )
  expect_identical(run$end, "interrupt")
  expect_lt(run$seconds, 5)
})

test_that("an interrupt ends the passes over counts before the test", {
  skip_on_cran()
  skip_on_os("windows")
  run <- interrupt_after(
    2,
    quote({
      coords <- expand.grid(x = 1:200, y = 1:200)
      counts <- Matrix::rsparsematrix(400, 40000, 0.2, rand.x = \(n) 1 + rpois(n, 2))
      input <- patina:::as_input(counts, coords)
    }),
    quote(
      repeat {
        patina:::new_normalizer(input, run = patina:::new_run(1L, progress = TRUE))
      }
    )
  )
  expect_identical(run$end, "interrupt")
  expect_lt(run$seconds, 5)
})

test_that("a kernel too wide for a sparse matrix is refused with what to do", {
  expect_error(
    abort_rust("[wide] the SE kernel of lengthscale 9 is too wide", NULL),
    "for short lengthscales.*lengthscale 9.*auto",
    class = "patina_error_approximation"
  )
})
