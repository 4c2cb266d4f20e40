test_that("conditions have classes, and errors the user's call", {
  verb <- function(x) check_it(x)
  check_it <- function(x, call = rlang::caller_env()) {
    abort_patina("{.arg x} is {.val {x}}.", class = "argument", call = call)
  }
  error <- expect_error(verb(3), "`x` is 3", class = "patina_error_argument")
  expect_s3_class(error, "patina_error")
  expect_identical(conditionCall(error), quote(verb(3)))

  lost <- "g1"
  warning <- expect_warning(warn_patina("Lost {lost}.", "lost"), "Lost g1", class = "patina_warning_lost")
  expect_s3_class(warning, "patina_warning")
  expect_message(inform_patina("Found {lost}."), "Found g1", class = "patina_message")
})

test_that("a list of names has its commas, and an end", {
  listed <- function(x, n = 3L) cli::format_inline("{first_few(x, n)}")
  expect_identical(listed("a"), "a")
  expect_identical(listed(c("a", "b")), "a, b")
  expect_identical(listed(letters[1:3]), "a, b, c")
  expect_identical(listed(letters), "a, b, c, ...")
})
