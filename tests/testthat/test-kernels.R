fit_tissue <- function(tissue, ...) {
  spatial_test(tissue$y, tissue$coords, normalization = "none", threads = 1, progress = FALSE, ...)
}

test_that("an approximation that cannot serve is refused", {
  tissue <- small_tissue()
  genes <- rownames(tissue$y)
  expect_error(fit_tissue(tissue, approximation = "fast"), "must be one of")
  expect_error(
    fit_tissue(tissue, approximation = "krylov", kernels = c("SE", "linear")),
    "krylov.*cannot serve.*linear",
    class = "patina_error_approximation"
  )
  expect_error(
    model_search(tissue$y, tissue$coords, genes, normalization = "none", approximation = "krylov"),
    "krylov.*cannot serve.*PER",
    class = "patina_error_approximation"
  )
  kernels <- kernel_table("SE", 1:10, as_input(tissue$y, tissue$coords), NULL)
  expect_error(
    check_approximation("exact", kernels, c(3e4, 1e4), new_run(2), available = 1e9),
    "40000 spots and 10 kernels.*128.0 GB; 1.0 GB",
    class = "patina_error_approximation"
  )
  expect_silent(check_approximation("exact", kernels, 4e4, new_run(2), available = Inf))
  expect_gt(available_memory(), 1e6)
  expect_identical(fit_tissue(tissue)$status, rep("ok", 6))
})
