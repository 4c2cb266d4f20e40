test_that("patterns can be had anywhere, with standard errors", {
  data <- three_patterns()
  fit <- fit_three(data)
  here <- predict(fit)
  expect_named(here, c("spot", "x", "y", "pattern", "value", "se"))
  expect_equal(here$value, fit$patterns$value)
  expect_true(all(here$se > 0 & here$se < 0.5))
  wide <- predict(fit, wide = TRUE)
  expect_identical(dim(wide), c(90L, 9L))
  expect_identical(wide$pattern_2, here$value[91:180])

  # Columns by name, in any order; more of them do no harm.
  new <- data.frame(y = c(4, 500), x = c(5, 500), name = c("near", "far"))
  there <- predict(fit, new)
  expect_named(there, c("x", "y", "pattern", "value", "se"))
  expect_identical(there$x, rep(c(5, 500), 3))
  expect_identical(there$value[c(2, 4, 6)], c(0, 0, 0))
  expect_identical(there$se[c(2, 4, 6)], c(1, 1, 1))
  expect_true(all(there$se[c(1, 3, 5)] < 0.5))

  # Kriging by hand: the mean of a pattern's genes is seen with noise s2 / R.
  k <- function(a, b) {
    exp(-(outer(a$x, b$x, `-`)^2 + outer(a$y, b$y, `-`)^2) / (2 * 2^2))
  }
  y <- scale(as.matrix(data$y)) * sqrt(90 / 89)
  r <- fit$memberships[, 1]
  v <- k(data$coords, data$coords) + diag(fit$noise / sum(r), 90)
  cross <- k(new[1, ], data$coords)
  expect_equal(there$value[[1]], drop(cross %*% solve(v, y %*% r / sum(r))), tolerance = 1e-6)
  expect_equal(there$se[[1]], sqrt(1 - drop(cross %*% solve(v, t(cross)))), tolerance = 1e-6)

  expect_error(predict(fit, data.frame(x = 1)), class = "patina_error_coords")
  expect_error(predict(fit, data.frame(x = 1, y = NA_real_)), class = "patina_error_coords")
})

test_that("it prints on a screen", {
  local_reproducible_output(width = 70)
  data <- three_patterns()
  fit <- fit_three(data, n_patterns = 2:3) |> suppressMessages()
  printed <- utils::capture.output(print(fit))
  expect_match(printed[[1]], "3 patterns of 25 genes at 90 spots")
  expect_lt(length(printed), 10)
  expect_true(all(nchar(printed) <= 70))
  table <- summary(fit)
  expect_identical(table$n_genes, c(12L, 8L, 5L))
  expect_setequal(unlist(table$genes), names(data$y))
  expect_true(all(table$signal > 0 & table$signal < 1))
  expect_output(print(table), "Bounds by lengthscale")
})
