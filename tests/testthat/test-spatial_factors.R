tissue <- example_tissue(n_spots = 200, n_genes = 80)
xy <- tissue$sample_info[c("x", "y")]
fit <- spatial_factors(tissue$counts, xy, n_factors = 4, threads = 1)

test_that("the tissue's programs are found", {
  expect_s3_class(fit, "patina_factors")
  expect_named(fit$factors, c("spot", "x", "y", paste0("factor_", 1:4)))
  expect_identical(fit$factors$spot, colnames(tissue$counts))
  expect_equal(unname(colMeans(fit$factors[4:7]^2) - colMeans(fit$factors[4:7])^2), rep(1, 4))
  expect_false(is.unsorted(rev(fit$summary$variance)))
  # each pattern of genes has a factor that most of it follows
  kinds <- tissue$truth$pattern[match(rownames(fit$loadings), tissue$truth$gene)]
  for (kind in setdiff(unique(kinds), "none")) {
    strongest <- max.col(abs(fit$loadings[kinds == kind, ]))
    expect_gt(max(tabulate(strongest)) / length(strongest), 0.6)
  }
})

test_that("order of spots, samples and threads change what they should", {
  shuffled <- rev(seq_len(ncol(tissue$counts)))
  again <- spatial_factors(tissue$counts, xy, n_factors = 4, threads = 2)
  expect_identical(again$factors, fit$factors)
  turned <- spatial_factors(tissue$counts[, shuffled], xy[shuffled, ], n_factors = 4, threads = 1)
  expect_identical(turned$factors$spot, fit$factors$spot[shuffled])

  two <- rep(c("b", "a"), length.out = ncol(tissue$counts))
  slides <- spatial_factors(tissue$counts, xy, n_factors = 2, sample_id = two, threads = 1)
  expect_identical(as.character(slides$factors$sample), two)
  expect_identical(slides$factors$x, xy$x)
  domains <- spatial_domains(slides, 3, threads = 1)
  expect_identical(domains$spot, colnames(tissue$counts))
  expect_s3_class(plot_domains(domains), "ggplot")
  expect_s3_class(plot_factors(slides), "ggplot")
  there <- predict(slides, data.frame(x = 0, y = 0), sample_id = "a", threads = 1)
  expect_identical(nrow(there), 2L)
})

test_that("sections with other parts of a tissue share its domains", {
  set.seed(6)
  places <- expand.grid(x = 1:30, y = 1:12)
  area <- 1 + (places$x > 10) + (places$x > 20)
  profiles <- matrix(exp(0.5 * rnorm(80 * 3)), 80)
  batch <- exp(0.1 * matrix(rnorm(80 * 2), 80))
  # the first section has areas 1 and 2, the second 2 and 3
  section <- ifelse(area == 1 | (area == 2 & places$y > 6), "one", "two")
  rates <- 2 * profiles[, area] * batch[, match(section, c("one", "two"))]
  counts <- matrix(rpois(length(rates), rates), 80, dimnames = list(paste0("g", 1:80), NULL))
  fit <- spatial_factors(counts, places, sample_id = section, n_factors = 2, threads = 1)
  domains <- spatial_domains(fit, 3, threads = 1)
  agree <- table(domains$domain, area)
  expect_identical(rowSums(agree > 10), c(`1` = 1, `2` = 1, `3` = 1))
  # sections differ in their means by as much as areas do, elsewhere too
  factors <- as.matrix(fit$factors[c("factor_1", "factor_2")])
  between <- apply(factors, 2, \(x) diff(range(tapply(x, section, mean))))
  expect_gt(max(between), 0.5)
  there <- predict(fit, places, sample_id = section, wide = TRUE, threads = 1)
  expect_equal(as.matrix(there[c("factor_1", "factor_2")]), factors, tolerance = 0.05)
  expect_identical(as.matrix(predict(fit, wide = TRUE)[c("factor_1", "factor_2")]), factors)
})

test_that("the number is chosen by left-out spots", {
  chosen <- spatial_factors(tissue$counts, xy, most = 6, threads = 1)
  expect_identical(chosen$held_out$n_factors, 0:6)
  expect_identical(chosen$held_out$r_squared[[1]], 0)
  expect_true(chosen$supported)
  expect_identical(fit$supported, NA)
  tried <- chosen$held_out[-1, ]
  good <- tried$n_factors[tried$r_squared >= max(tried$r_squared) - tried$se]
  expect_true(ncol(chosen$loadings) %in% good)
  expect_gte(ncol(chosen$loadings), which.max(tried$r_squared))
})

test_that("a tissue without a program has no supported factor, and one domain", {
  for (spots in c(100, 400)) {
    set.seed(spots)
    places <- data.frame(x = runif(spots), y = runif(spots))
    rates <- outer(rgamma(120, 1, 0.5), exp(0.4 * rnorm(spots)))
    noise <- matrix(rpois(length(rates), rates), 120, dimnames = list(paste0("g", 1:120), NULL))
    expect_warning(
      none <- spatial_factors(noise, places, threads = 1),
      "No factor is supported",
      class = "patina_warning_no_factors"
    )
    expect_false(none$supported)
    expect_identical(ncol(none$loadings), 1L)
    expect_match(capture.output(print(none))[[2]], "Not supported")
    expect_warning(
      one <- spatial_domains(none, threads = 1),
      "One domain",
      class = "patina_warning_no_domains"
    )
    expect_identical(levels(one$domain), "1")
    expect_identical(one$probability, rep(1, spots))
    expect_s3_class(plot_domains(one), "ggplot")
    # what is asked for is given
    expect_identical(nlevels(spatial_domains(none, 3, threads = 1)$domain), 3L)
    expect_silent(asked <- spatial_factors(noise, places, n_factors = 2, threads = 1))
    expect_identical(ncol(asked$loadings), 2L)
  }
})

test_that("predictions at the spots are the factors, those elsewhere follow them", {
  own <- predict(fit, wide = TRUE)
  expect_equal(own$factor_2, fit$factors$factor_2)
  expect_true(all(own$se_1 > 0))
  there <- predict(fit, as.data.frame(xy), wide = TRUE, threads = 1)
  expect_gt(cor(there$factor_1, fit$factors$factor_1), 0.98)
  expect_error(predict(fit, data.frame(x = 1:2)), class = "patina_error_coords")
})

test_that("domains are parts of the tissue", {
  domains <- spatial_domains(fit, 4, threads = 1)
  expect_s3_class(domains, "patina_domains")
  expect_identical(nlevels(domains$domain), 4L)
  expect_false(is.unsorted(rev(tabulate(domains$domain))))
  expect_true(all(domains$probability > 0.2 & domains$probability <= 1))
  expect_identical(spatial_domains(fit, 4, threads = 2), domains)
  expect_message(several <- spatial_domains(fit, 2:4, threads = 1), "criterion")
  expect_identical(attr(several, "patina")$criterion$n_domains, 2:4)
})

test_that("a table of results may stand in the place of coordinates that x carries", {
  skip_if_not_installed("SpatialExperiment")
  spe <- example_tissue(n_spots = 100, n_genes = 30, as = "SpatialExperiment")
  results <- spatial_test(spe)
  hits <- subset(results, qval < 0.05)
  fit <- spatial_factors(spe, hits, n_factors = 2)
  expect_identical(fit$loadings, spatial_factors(spe, genes = hits, n_factors = 2)$loadings)
})

test_that("results go into objects", {
  skip_if_not_installed("SingleCellExperiment")
  sce <- SingleCellExperiment::SingleCellExperiment(list(counts = tissue$counts))
  sce <- add_results(sce, fit)
  expect_identical(
    unname(SingleCellExperiment::reducedDim(sce, "patina_factors")[, 1]),
    fit$factors$factor_1
  )
  expect_true(all(paste0("patina_loading_", 1:4) %in% names(SummarizedExperiment::rowData(sce))))
  domains <- spatial_domains(fit, 3, threads = 1)
  sce <- add_results(add_results(sce, domains), domains)
  expect_identical(sce$patina_domain, domains$domain)
  # fewer factors later: nothing stale
  fewer <- add_results(sce, spatial_factors(tissue$counts, xy, n_factors = 2, threads = 1))
  columns <- list(
    names(SummarizedExperiment::colData(fewer)),
    names(SummarizedExperiment::rowData(fewer)),
    colnames(SingleCellExperiment::reducedDim(fewer))
  )
  expect_identical(lapply(columns, \(names) sum(grepl("(factor|loading)_[0-9]", names))), list(2L, 2L, 2L))
})

test_that("mistakes are named", {
  expect_error(spatial_factors(tissue$counts, xy, n_factors = 0), class = "patina_error_argument")
  expect_error(spatial_factors(tissue$counts, xy, n_factors = 100), "100", class = "patina_error_argument")
  expect_error(spatial_factors(tissue$counts, xy, "nobody"), class = "patina_error_names")
  expect_error(spatial_factors(tissue$counts, xy, lengthscale = -1), class = "patina_error_argument")
  expect_error(spatial_domains(xy), class = "patina_error_argument")
  expect_error(spatial_domains(fit, 0), class = "patina_error_argument")
  expect_error(spatial_domains(fit, 3, threads = 0), "threads", class = "patina_error_argument")
  expect_error(
    spatial_factors(tissue$counts, xy, c("gene01", NA)),
    "1 of its 2",
    class = "patina_error_argument"
  )
  expect_error(plot_factors(xy), class = "patina_error_argument")
  expect_error(plot_domains(xy), class = "patina_error_argument")
})

test_that("printing fits a screen", {
  lines <- cli::ansi_strip(capture.output(print(fit)))
  expect_match(lines[[1]], "4 factors of 80 genes at 200 spots")
  expect_length(lines, 6L)
  expect_true(all(nchar(lines) <= cli::console_width()))
})

test_that("odd inputs pass: one dimension, three, a few spots, copies, normalised values", {
  values <- t(as.matrix(tissue$counts))
  line <- spatial_factors(as.data.frame(values), xy["x"], n_factors = 2, threads = 1)
  expect_named(line$factors, c("spot", "x", "factor_1", "factor_2"))
  expect_s3_class(plot_domains(spatial_domains(line, 2, threads = 1)), "ggplot")
  deep <- spatial_factors(tissue$counts, cbind(xy, z = rev(xy$x)), n_factors = 2, threads = 1)
  expect_identical(ncol(deep$factors), 6L)
  few <- spatial_factors(tissue$counts[, 1:12], xy[1:12, ], n_factors = 2, threads = 1)
  expect_identical(nrow(few$factors), 12L)
  twice <- rep(1:60, 2)
  expect_warning(
    copies <- spatial_factors(
      unname(tissue$counts[, twice]),
      unname(as.matrix(xy))[twice, ],
      n_factors = 2,
      threads = 1
    ),
    class = "patina_warning_copied_spots"
  )
  expect_true(all(is.finite(copies$factors$factor_1)))
  expect_identical(nlevels(spatial_domains(copies, 3, threads = 1)$domain), 3L)
  none <- spatial_factors(log1p(tissue$counts), xy, n_factors = 2, normalization = "none", threads = 1)
  expect_identical(ncol(none$loadings), 2L)
})

test_that("spots with next to no counts get the factors of the spots around", {
  counts <- as.matrix(tissue$counts)
  set.seed(1)
  junk <- sort(sample(ncol(counts), 20))
  counts[, junk] <- 0
  counts[cbind(sample(nrow(counts), 20), junk)] <- 1
  for (sample_id in list(NULL, rep(c("b", "a"), length.out = ncol(counts)))) {
    expect_warning(
      odd <- spatial_factors(counts, xy, n_factors = 2, sample_id = sample_id, threads = 1),
      "come from the spots around",
      class = "patina_warning_junk_spots"
    )
    expect_identical(odd$factors$spot, colnames(counts))
    without <- spatial_factors(
      counts[, -junk],
      xy[-junk, ],
      genes = rownames(odd$loadings),
      n_factors = 2,
      sample_id = sample_id[-junk],
      threads = 1
    )
    expect_equal(odd$factors$factor_1[-junk], without$factors$factor_1)
    there <- predict(without, xy[junk, ], sample_id = sample_id[junk], wide = TRUE, threads = 1)
    expect_equal(odd$factors$factor_2[junk], there$factor_2)
    expect_equal(predict(odd, wide = TRUE)$se_2[junk], there$se_2)
    expect_identical(nrow(spatial_domains(odd, 3, threads = 1)), ncol(counts))
  }
})

test_that("domains of a time course have a picture, means the factors' units", {
  times <- data.frame(minute = seq_len(200))
  course <- spatial_factors(tissue$counts[, order(xy$x)], times, n_factors = 2, threads = 1)
  domains <- spatial_domains(course, 2, threads = 1)
  expect_silent(ggplot2::ggplot_build(plot_domains(domains)))
  means <- attr(domains, "patina")$means
  seen <- apply(course$totals, 2, \(x) tapply(x, domains$domain, mean))
  expect_equal(unname(means), unname(seen), tolerance = 0.2)
})

test_that("domains go into Seurat objects, which have no column for genes then", {
  skip_if_not_installed("SeuratObject")
  seurat <- suppressWarnings(SeuratObject::CreateSeuratObject(tissue$counts))
  domains <- spatial_domains(fit, 3, threads = 1)
  seurat <- add_results(seurat, domains)
  expect_identical(as.character(seurat$patina_domain), as.character(domains$domain), ignore_attr = TRUE)
})

test_that("where cells of several types are mixed, domains are areas and not types", {
  set.seed(4)
  n <- 500
  places <- data.frame(x = runif(n), y = runif(n))
  area <- 1 + (places$x > 0.5)
  shares <- rbind(c(0.6, 0.3, 0.05, 0.05), c(0.05, 0.05, 0.3, 0.6))
  type <- vapply(area, \(k) sample(4, 1, prob = shares[k, ]), 1L)
  profiles <- matrix(exp(rnorm(60 * 4)), 60)
  counts <- matrix(rpois(60 * n, 3 * profiles[, type]), 60, dimnames = list(paste0("g", 1:60), NULL))
  cells <- spatial_factors(counts, places, n_factors = 4, threads = 1)
  domains <- spatial_domains(cells, 2, threads = 1)
  agree <- mean((domains$domain == "1") == (area == 1))
  expect_gt(max(agree, 1 - agree), 0.9)
})

test_that("the number of domains is that of the tissue's parts, though expression varies within them", {
  set.seed(3)
  places <- expand.grid(x = 1:20, y = 1:20)
  area <- 1 + (places$x > 7) + (places$x > 13)
  within <- sin(places$y / 4)
  y <- matrix(rnorm(60 * 400), 60, dimnames = list(paste0("g", 1:60), NULL))
  y <- y + outer(rnorm(60), c(-1, 1, 0)[area]) + outer(rnorm(60), c(1, 1, -2)[area] / 2)
  y <- y + outer(0.1 * rnorm(60), within)
  fit <- spatial_factors(y, places, normalization = "none", threads = 1)
  expect_message(domains <- spatial_domains(fit, threads = 1), "3 domains")
  agree <- table(domains$domain, area)
  expect_identical(rowSums(agree > 10), c(`1` = 1, `2` = 1, `3` = 1))
})

test_that("the coordinates' unit and origin make no difference", {
  # a lattice: distances are tied, but for rounding
  for (moved in list(xy * 3, xy / 7, xy + 1000.1, xy * 0.65 - 12345)) {
    again <- spatial_factors(tissue$counts, moved, n_factors = 4, threads = 1)
    expect_identical(again$loadings, fit$loadings)
    expect_identical(again$factors[4:7], fit$factors[4:7])
    unit <- diff(range(moved$x)) / diff(range(xy$x))
    expect_equal(again$summary$lengthscale, unit * fit$summary$lengthscale)
    expect_equal(predict(again, moved[1:3, ], threads = 1)$value, predict(fit, xy[1:3, ], threads = 1)$value)
  }
  slides <- rep(c("b", "a"), each = 100)
  two <- \(xy) spatial_factors(tissue$counts, xy, n_factors = 2, sample_id = slides, threads = 1)
  expect_identical(two(xy + 50.3 * (slides == "a"))$loadings, two(xy)$loadings)
})

test_that("coordinates may have any names, those of results' columns too", {
  new <- data.frame(x = c(1, 2.5), y = 3)
  plain <- predict(fit, new, threads = 1)
  for (names in list(
    c("sample", "factor_1"),
    c("value", "patternx"),
    c("domain", "probability"),
    c("x", "x")
  )) {
    named <- spatial_factors(tissue$counts, stats::setNames(xy, names), n_factors = 4, threads = 1)
    expect_identical(named$loadings, fit$loadings)
    expect_identical(anyDuplicated(names(named$factors)), 0L)
    found <- predict(named, if (names[[1L]] == "x") new else stats::setNames(new, names), threads = 1)
    expect_identical(unname(as.list(found)), unname(as.list(plain)))
    expect_named(found, c(colnames(named$model$coords), "factor", "value", "se"))
    expect_identical(names(predict(named))[2:3], colnames(named$model$coords))
    expect_draws(plot_factors(named))
    expect_draws(plot_domains(spatial_domains(named, 3, threads = 1)))
  }
})

test_that("domains may be filtered and changed; what is missing is named", {
  two <- rep(c("b", "a"), length.out = ncol(tissue$counts))
  slides <- spatial_factors(tissue$counts, xy, n_factors = 2, sample_id = two, threads = 1)
  domains <- spatial_domains(slides, 3, threads = 1)
  expect_silent(plot <- plot_domains(domains[domains$sample == "b", ], unit = "mm"))
  expect_draws(plot)
  expect_identical(levels(plot$data$sample), "b")
  expect_identical(nlevels(plot$data$domain), 3L)
  domains$domain <- as.character(domains$domain)
  expect_draws(plot_domains(domains))
  domains$x <- NULL
  expect_error(plot_domains(domains), "`domains` has no column x", class = "patina_error_argument")
})

test_that("a result of an earlier version is told from one of today", {
  earlier <- fit
  earlier$model$tissue <- NULL
  expect_error(spatial_domains(earlier, 3), "has no tissue in its model", class = "patina_error_argument")
  earlier$model <- NULL
  expect_error(predict(earlier, xy), "Run `spatial_factors", class = "patina_error_argument")
  file <- withr::local_tempfile()
  saveRDS(fit, file)
  again <- readRDS(file)
  expect_identical(predict(again, xy, threads = 1), predict(fit, xy, threads = 1))
})

test_that("more factors than a tissue has are 0, and a message says so", {
  expect_message(
    many <- spatial_factors(tissue$counts, xy, n_factors = 20, threads = 1),
    "of 20 factors are 0 everywhere"
  )
  empty <- is.nan(many$summary$lengthscale)
  expect_identical(many$summary$variance == 0, empty)
  expect_true(all(as.matrix(many$factors[-(1:3)])[, empty] == 0))
  expect_identical(levels(spatial_domains(many, 3, threads = 1)$domain), as.character(1:3))
})

test_that("depth may be a covariate, and a small tissue is not divided too far", {
  fit <- spatial_factors(tissue$counts, xy, n_factors = 2, covariates = ~ log(total_counts), threads = 1)
  expect_identical(ncol(fit$loadings), 2L)
  few <- spatial_factors(tissue$counts[, 1:12], xy[1:12, ], n_factors = 2, threads = 1)
  domains <- suppressMessages(spatial_domains(few, threads = 1))
  expect_identical(attr(domains, "patina")$criterion$n_domains, 2L)
  expect_error(predict(fit, sample_id = "a"), "newcoords", class = "patina_error_argument")
  slide <- rep(c("a", "b"), length.out = ncol(tissue$counts))
  two <- spatial_factors(tissue$counts, xy, n_factors = 2, sample_id = slide, threads = 1)
  expect_identical(names(predict(two, xy[1:2, ], sample_id = c("b", "a")))[1:3], c("sample", "x", "y"))
})

test_that("factors that the tissue does not have load on no gene", {
  noise <- withr::with_seed(2, matrix(stats::rnorm(40 * 100), 40, dimnames = list(paste0("g", 1:40), NULL)))
  xy <- expand.grid(x = 1:10, y = 1:10)
  fit <- suppressMessages(
    spatial_factors(noise, xy, rownames(noise), n_factors = 6, normalization = "none", threads = 1)
  )
  empty <- is.nan(fit$summary$lengthscale)
  expect_true(any(empty))
  expect_true(all(fit$loadings[, empty] == 0))
  expect_no_match(utils::capture.output(print(fit))[which(empty) + 2L], "g[0-9]")
})
