test_that("q-values are SpatialDE's", {
  reference <- utils::read.csv(gzfile(reference_path("mob_run.csv.gz")))
  expect_equal(qvalues(reference$pval), reference$qval, tolerance = 1e-9, ignore_attr = TRUE)
})

test_that("few p-values give Benjamini and Hochberg's", {
  p <- c(a = 0.01, b = NA, c = 0.04, d = 0.03)
  expect_equal(qvalues(p), stats::p.adjust(p, "BH"), ignore_attr = "pi0")
  expect_equal(attr(qvalues(p), "pi0"), 1)
  expect_named(qvalues(p), names(p))
  expect_equal(as.vector(qvalues(numeric())), numeric())
  expect_equal(as.vector(qvalues(NA)), NA_real_)
})

test_that("bad p-values are named", {
  expect_snapshot(error = TRUE, {
    qvalues(c(0.5, 1.5, -1))
    qvalues("a")
    qvalues(0.5, pi0 = 2)
  })
})
