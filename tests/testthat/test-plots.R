tissue <- fake_tissue()

panel_values <- function(plot, layer = 1L) {
  data <- ggplot2::layer_data(plot, layer)
  split(data, data$PANEL)
}

test_that("plot_genes() shows each gene's values at its spots", {
  plot <- plot_genes(tissue$counts, tissue$coords, genes = c("Stripe", "Slope"), trim = 0)
  expect_draws(plot)
  expect_equal(levels(plot$data$gene), c("Stripe", "Slope"))
  shown <- split(plot$data, plot$data$gene)
  expect_equal(shown$Stripe$value, unname(tissue$counts["Stripe", ]))
  expect_equal(shown$Slope$x, tissue$coords$x)
  expect_equal(shown$Slope$y, tissue$coords$y)
  expect_equal(shown$Slope$spot, colnames(tissue$counts))
  # Every panel uses the whole colour scale.
  for (panel in panel_values(plot)) {
    expect_true(all(c("#440154", "#FDE725") %in% panel$colour))
  }
})

test_that("a shared scale gives equal values equal colours", {
  plot <- plot_genes(
    tissue$counts,
    tissue$coords,
    genes = c("Slope", "Noise"),
    scale = "shared",
    trim = 0
  )
  panels <- panel_values(plot)
  expect_draws(plot)
  colour <- function(panel, value) unique(panel$colour[value])
  eight <- list(tissue$counts["Slope", ] == 8, tissue$counts["Noise", ] == 8)
  expect_equal(colour(panels[[1L]], eight[[1L]]), colour(panels[[2L]], eight[[2L]]))
})

test_that("one extreme spot does not hide the rest, unless asked to", {
  counts <- rbind(a = c(rep(0:9, 20), 1000))
  coords <- cbind(x = 1:201, y = rep(1:3, 67))
  colours <- function(trim) {
    length(unique(ggplot2::layer_data(plot_genes(counts, coords, genes = "a", trim = trim))$colour))
  }
  expect_equal(colours(0.01), 10L)
  expect_lt(colours(0), 10L)
  expect_equal(trimmed_range(c(rep(0, 500), 3), 0.01), c(0, 3))
  expect_null(trimmed_range(NA_real_, 0.01))
})

test_that("genes with constant or missing values are drawn too", {
  counts <- tissue$counts
  counts["Noise", 1:3] <- c(NA, Inf, NaN)
  expect_draws(plot_genes(counts, tissue$coords, genes = c("Silent", "Noise")))
  expect_draws(plot_genes(counts, tissue$coords, genes = "Silent"))
  counts["Noise", ] <- NA
  plot <- plot_genes(counts, tissue$coords, genes = c("Noise", "Slope"))
  expect_draws(plot)
  expect_equal(unique(panel_values(plot)[[1L]]$colour), "grey80")
  expect_draws(plot_genes(counts, tissue$coords, genes = "Noise"))
})

test_that("genes may come from a table of results, and pseudo-genes there give way", {
  results <- fake_test()[1:2, ]
  plot <- plot_genes(tissue$counts, tissue$coords, genes = results)
  expect_equal(levels(plot$data$gene), c("Slope", "Stripe"))
  plot <- plot_genes(tissue$counts, tissue$coords, genes = results, n_genes = 1)
  expect_equal(levels(plot$data$gene), "Slope")
  results$gene[[1L]] <- "log_total_count"
  expect_message(
    plot <- plot_genes(tissue$counts, tissue$coords, genes = results, n_genes = 1),
    "log_total_count",
    class = "patina_message"
  )
  expect_equal(levels(plot$data$gene), "Stripe")
})

test_that("plot_genes() says what is wrong with genes and other arguments", {
  draw <- function(...) plot_genes(tissue$counts, tissue$coords, ...)
  expect_snapshot(error = TRUE, {
    draw()
    draw(genes = c("Slope", "Slop"))
    draw(genes = fake_test()[0, ])
    draw(genes = 1:2)
    draw(genes = data.frame(name = "Slope"))
    draw(genes = "Slope", axes = c("x", "z"))
    draw(genes = "Slope", spot_size = 0)
    draw(genes = "Slope", trim = 0.6)
    draw(genes = fake_test(), n_genes = 0)
  })
  expect_error(draw(genes = "Slop"), class = "patina_error_names")
  expect_error(draw(genes = 1), class = "patina_error_argument")
})

test_that("genes of the same name have panels of their own names", {
  counts <- tissue$counts
  rownames(counts)[[2L]] <- "Slope"
  expect_warning(
    plot <- plot_genes(counts, tissue$coords, genes = "Slope"),
    class = "patina_warning_duplicated_genes"
  )
  expect_equal(nrow(plot$data), 64L)
})

test_that("spots are as wide as the distance between neighbours, at any size", {
  expect_equal(spot_spacing(as.matrix(tissue$coords)), 1)
  expect_equal(spot_spacing(cbind(1:10 * 3)), 3)
  # Spots in one place, and more spots than are looked at
  expect_equal(spot_spacing(cbind(c(1, 1, 3, 3, 5, 5), 0)), 2)
  expect_equal(spot_spacing(as.matrix(expand.grid(1:50, 1:50))), 1)
  expect_equal(spot_spacing(cbind(1, 1)), 1)

  # The disc's radius as it is drawn, against the distance of two spots as they are drawn
  for (keep in list(1:64, 1:24, which(tissue$coords$x < 3))) {
    plot <- plot_genes(tissue$counts[, keep], tissue$coords[keep, ], genes = "Slope", spot_size = 1)
    withr::local_pdf(withr::local_tempfile(fileext = ".pdf"))
    table <- ggplot2::ggplotGrob(plot)
    panel <- which(table$layout$name == "panel-1-1")
    height <- as.double(table$heights[table$layout$t[[panel]]])
    width <- as.double(table$widths[table$layout$l[[panel]]])
    grid::pushViewport(grid::viewport(
      width = grid::unit(3, "in"),
      height = grid::unit(3 * height / width, "in")
    ))
    discs <- grid::getGrob(table$grobs[[panel]], "circle", grep = TRUE)
    inches <- function(x, convert) convert(x, "in", valueOnly = TRUE)
    radius <- min(inches(discs$r[1], grid::convertWidth), inches(discs$r[1], grid::convertHeight))
    expect_equal(2 * radius, inches(discs$x[2] - discs$x[1], grid::convertWidth))
  }
})

test_that("one coordinate gives lines, three a pair of axes", {
  time <- c(seq(0, 6, length.out = 32), seq(0, 6, length.out = 32))
  counts <- rbind(Wave = sin(time) + rep(c(-0.1, 0.1), each = 32), Trend = time)
  line <- plot_genes(counts, data.frame(hours = time), genes = c("Wave", "Trend"))
  expect_draws(line)
  # The line goes through the mean of spots at the same place.
  drawn <- panel_values(line, 2L)[[1L]]
  expect_equal(drawn$y, sin(seq(0, 6, length.out = 32)))
  expect_equal(line$labels$x, "hours")
  expect_draws(plot_genes(counts, time, genes = "Wave", scale = "shared"))

  coords <- cbind(tissue$coords, z = rep(1:2, 32))
  plot <- plot_genes(tissue$counts, coords, genes = "Slope", axes = c("x", "z"))
  expect_equal(plot$data$y, coords$z)
  expect_equal(plot_genes(tissue$counts, coords, genes = "Slope")$data$y, coords$y)
  expect_draws(plot)
})

test_that("every sample has a row of panels", {
  sample <- rep(c("left", "right"), 32)
  plot <- plot_genes(tissue$counts, tissue$coords, genes = c("Slope", "Noise"), sample_id = sample)
  expect_draws(plot)
  expect_length(panel_values(plot), 4L)
  expect_equal(as.character(plot$data$sample[1:64]), sample)
  # Slides that lie apart are drawn at the same place.
  apart <- tissue$coords + 100 * (sample == "right")
  moved <- plot_genes(tissue$counts, apart, genes = c("Slope", "Noise"), sample_id = sample)
  expect_equal(moved$data, plot$data)
  line <- plot_genes(tissue$counts, tissue$coords["x"], genes = "Slope", sample_id = sample)
  expect_draws(line)
})

test_that("plot_genes() reads data frames and Bioconductor objects", {
  expected <- plot_genes(tissue$counts, tissue$coords, genes = "Stripe")$data
  frame <- as.data.frame(t(tissue$counts))
  expect_equal(plot_genes(frame, tissue$coords, genes = "Stripe")$data, expected)
  skip_if_not_installed("SpatialExperiment")
  spe <- SpatialExperiment::SpatialExperiment(
    assays = list(counts = tissue$counts, halved = tissue$counts / 2),
    spatialCoords = as.matrix(tissue$coords)
  )
  expect_equal(plot_genes(spe, genes = "Stripe")$data, expected)
  expect_equal(plot_genes(spe, genes = "Stripe", assay = "halved")$data$value, expected$value / 2)
})

test_that("residuals are those that the test works on, whichever genes are shown", {
  input <- as_input(tissue$counts, tissue$coords)
  for (normalization in c("anscombe", "pearson")) {
    normalize <- new_normalizer(input, new_settings(normalization))
    all <- normalize(input_block(input, 1:4), 1:4)
    plot <- plot_genes(
      tissue$counts,
      tissue$coords,
      genes = c("Noise", "Slope"),
      normalization = normalization
    )
    # as deviations from their mean, which the test takes out
    expect_equal(plot$data$value, as.vector(scale(all[, c(3L, 1L)], scale = FALSE)))
    expect_draws(plot)
  }
  expect_error(
    plot_genes(tissue$counts, tissue$coords, genes = "Noise", normalization = "log"),
    "normalization"
  )
})

# A picture's layers as grobs, drawn on a page that is not kept.
drawn_panels <- function(plot) {
  withr::local_pdf(withr::local_tempfile(fileext = ".pdf"))
  table <- ggplot2::ggplotGrob(plot)
  table$grobs[grepl("^panel", table$layout$name)]
}

test_that("spots are tiles of their lattice, discs elsewhere, and pixels where they are many", {
  square <- as.matrix(expand.grid(x = 1:12, y = 1:9)) * 7
  row <- rep(1:40, each = 30)
  hexagonal <- cbind(rep(1:30, 40) + (row %% 2) / 2, row * sqrt(3) / 2) * 100
  turn <- matrix(c(cos(0.3), sin(0.3), -sin(0.3), cos(0.3)), 2)
  layout <- spot_layout(square)
  expect_identical(layout$shape, "square")
  expect_equal(layout$width, 7)
  layout <- spot_layout(hexagonal %*% turn)
  expect_identical(layout$shape, "hexagon")
  expect_equal(layout$width, 100)
  # an angle matters up to a sixth of a turn
  expect_equal(cos(6 * layout$angle), cos(6 * 0.3))
  # missing spots, and places that were measured with an error
  some <- hexagonal[seq_len(nrow(hexagonal)) %% 7 != 0, ]
  expect_identical(spot_layout(some)$shape, "hexagon")
  expect_identical(spot_layout(some + sin(seq_along(some)) * 20)$shape, "disc")
  # scattered cells: discs as large as the tissue's area for each
  cells <- cbind((1:5000 * 0.7548776662) %% 1, (1:5000 * 0.5698402910) %% 1)
  expect_equal(pi / 4 * spot_layout(cells)$width^2, 1 / 5000, tolerance = 0.1)
  expect_equal(spot_layout(cells, spot_size = 2)$width, 2 * spot_spacing(cells))
  # many: one pixel for each spot of an upright square lattice, smaller ones for others
  many <- as.matrix(expand.grid(1:160, 1:130))
  expect_identical(spot_layout(many), list(shape = "raster", width = 1, angle = 0, close = FALSE))
  expect_identical(spot_layout(rbind(many, many + 0.5))$shape, "raster")
  # all spots on a line or in one place
  expect_identical(spot_layout(cbind(1:20, 0))$shape, "disc")
  expect_true(spot_layout(cbind(rep(1, 9), 2))$width > 0)
})

test_that("a picture of many spots covers the tissue, and its pixels are the spots' means", {
  n <- 150
  coords <- expand.grid(x = seq_len(n), y = seq_len(n))
  value <- coords$x + 1000 * coords$y
  counts <- matrix(value, 1L, dimnames = list("Gene", NULL))
  plot <- plot_genes(counts, coords, "Gene", trim = 0)
  layer <- ggplot2::layer_data(plot)
  expect_equal(nrow(layer), n^2)
  raster <- grid::getGrob(drawn_panels(plot)[[1L]], "raster", grep = TRUE)
  expect_identical(dim(raster$raster), c(150L, 150L))
  # nothing shines through between scattered cells
  cells <- data.frame(x = (1:30000 * 0.7548776662) %% 1, y = (1:30000 * 0.5698402910) %% 1)
  counts <- matrix(cells$x, 1L, dimnames = list("Gene", NULL))
  plot <- plot_genes(counts, cells, "Gene", trim = 0)
  raster <- grid::getGrob(drawn_panels(plot)[[1L]], "raster", grep = TRUE)$raster
  expect_lt(mean(is.na(raster)), 0.05)
  # the last column of pixels is the brightest
  expect_match(as.vector(raster)[100 * ncol(raster) - 4L], "^#F")
})

test_that("slides have rows of panels, each from its own lowest place, and their own spots", {
  first <- fake_tissue()
  coords <- rbind(first$coords, first$coords * 3 + 100, as.matrix(expand.grid(x = 1:8, y = 1:8)))
  rownames(coords) <- NULL
  counts <- cbind(first$counts, first$counts, first$counts)
  colnames(counts) <- NULL
  slide <- rep(c("one", "two", "three"), each = 64)
  plot <- plot_genes(counts, coords, c("Slope", "Stripe"), sample_id = slide, unit = "mm")
  expect_draws(plot)
  expect_length(drawn_panels(plot), 6L)
  low <- tapply(plot$data$x, plot$data$sample, min)
  expect_equal(as.vector(low), c(0, 0, 0))
  width <- vapply(
    levels(plot$data$sample),
    \(id) {
      data <- ggplot2::layer_data(plot, match(id, levels(plot$data$sample)))
      data$xmax[1] - data$xmin[1]
    },
    0
  )
  expect_equal(width, c(one = 1, three = 1, two = 3))

  patterns <- spatial_patterns(
    counts,
    coords,
    c("Slope", "Stripe"),
    sample_id = slide,
    n_patterns = 2,
    lengthscale = 3,
    normalization = "none",
    threads = 1
  )
  expect_identical(patterns$patterns$sample[1:192], factor(slide))
  plot <- plot_patterns(patterns)
  expect_length(drawn_panels(plot), 6L)
  expect_identical(unique(plot$data$sample), factor(unique(slide)))
  expect_identical(predict(patterns)$sample, patterns$patterns$sample)
  new <- predict(patterns, data.frame(x = 1, y = 1:2), sample_id = c("two", "one"), wide = TRUE)
  expect_identical(as.character(new$sample), c("two", "one"))
})

test_that("legends say the numbers and the trim; titles and scales can be replaced", {
  plot <- plot_genes(tissue$counts, tissue$coords, c("Slope", "Stripe"), trim = 0.1)
  expect_match(plot$labels$colour, "10 % at either")
  strips <- plot$facet$params$labeller(data.frame(gene = c("Slope", "Stripe")))
  expect_match(unlist(strips)[[2L]], "Stripe\n1 to 20")
  plot <- plot + ggplot2::labs(colour = "mine") + ggplot2::scale_colour_gradient(low = "white")
  expect_identical(plot$labels$colour, "mine")
  expect_identical(plot$scales$get_scales("colour")$name, ggplot2::waiver())
  shared <- plot_genes(tissue$counts, tissue$coords, c("Slope", "Stripe"), scale = "shared", trim = 0)
  expect_no_match(shared$labels$colour, "%")
  expect_error(
    plot_genes(tissue$counts, tissue$coords, "Slope", unit = 3),
    "unit",
    class = "patina_error_argument"
  )
})

test_that("plot_genes() can be added to", {
  plot <- plot_genes(tissue$counts, tissue$coords, genes = "Slope", alpha = 0.5) +
    ggplot2::scale_y_reverse() +
    ggplot2::ggtitle("Tissue") +
    ggplot2::theme_dark()
  expect_draws(plot)
  expect_true(all(ggplot2::layer_data(plot)$alpha == 0.5))
})

test_that("plot_patterns() counts genes", {
  patterns <- fake_patterns()
  plot <- plot_patterns(patterns)
  expect_draws(plot)
  expect_equal(levels(plot$data$pattern), c("Pattern 1 (1 gene)", "Pattern 2 (2 genes)"))
  expect_equal(plot$data$value, patterns$patterns$value)
  expect_draws(plot_patterns(patterns, scale = "free"))
  # Order of rows does not matter, empty patterns count zero, one coordinate gives lines.
  shuffled <- fake_patterns(3L)
  shuffled$patterns <- shuffled$patterns[192:1, setdiff(names(shuffled$patterns), "y")]
  lines <- plot_patterns(shuffled)
  expect_draws(lines)
  expect_equal(levels(lines$data$pattern)[[3L]], "Pattern 3 (0 genes)")
  expect_error(plot_patterns(fake_test()), class = "patina_error_argument")
  expect_error(plot_patterns(list(patterns = 1)), class = "patina_error_argument")
})

test_that("plot_test() places genes by fsv and by the logarithm of the p-value", {
  results <- fake_test()
  plot <- plot_test(results)
  expect_draws(plot)
  points <- ggplot2::layer_data(plot, 1L)
  expect_equal(nrow(points), 40L)
  expect_equal(max(points$y), 400)
  # More certain means larger; an unknown error is drawn smallest.
  size <- function(gene) points$size[points$y == -results$log10_pval[results$gene == gene]][[1L]]
  expect_gt(size("Slope"), size("Stripe"))
  expect_gt(size("Stripe"), size("gene3"))
  expect_equal(size("gene8"), min(points$size))
  # Hits are drawn last, on top.
  expect_equal(order(plot$data$group == "significant"), seq_len(41L))
})

test_that("the FDR line lies between the last hit and the next gene", {
  results <- fake_test()
  line <- fdr_threshold(transform(results, neg_log10_pval = -log10_pval)[1:40, ], 0.05)
  hit <- results$qval[1:40] < 0.05
  expect_true(all((-results$log10_pval[1:40] > line) == hit))
  expect_null(fdr_threshold(data.frame(qval = c(0.5, NA), neg_log10_pval = 1:2), 0.05))
  expect_equal(fdr_threshold(data.frame(qval = 0.01, neg_log10_pval = 7), 0.05), 7)
  expect_draws(plot_test(results[results$gene %in% paste0("gene", 30:40), ]))
})

test_that("plot_test() takes filtered, stripped and unusual results", {
  results <- fake_test()
  expect_draws(plot_test(results[which(results$qval < 0.05), ]))
  expect_draws(plot_test(as.data.frame(results[c("gene", "fsv", "log10_pval", "qval")])))
  expect_draws(plot_test(results, n_labels = 0, pseudo_genes = NULL))
  expect_draws(plot_test(results[1, ]))
  models <- fake_models()
  models$model[[1L]] <- "cosine"
  expect_draws(plot_test(results, models))
  expect_error(plot_test(results[42, ]), class = "patina_error_argument")
  expect_snapshot(error = TRUE, {
    plot_test(results["gene"])
    plot_test("results")
    plot_test(results, fdr = 5)
    plot_test(results[42, ])
    plot_test(results, models = results["gene"])
  })
})

test_that("models colour the hits", {
  results <- fake_test()
  plot <- plot_test(results, fake_models())
  expect_draws(plot)
  group <- stats::setNames(as.character(plot$data$group), plot$data$gene)
  expect_equal(unname(group[fake_models()$gene]), fake_models()$model)
  expect_equal(group[["gene12"]], "no model")
  expect_equal(group[["gene40"]], "other")
})

test_that("labels work without ggrepel", {
  data <- data.frame(label = "a", pseudo = FALSE, fsv = 0.5, neg_log10_pval = 3)
  expect_s3_class(label_layer(data, repel = FALSE)$geom, "GeomText")
  skip_if_not_installed("ggrepel")
  expect_s3_class(label_layer(data, repel = TRUE)$geom, "GeomTextRepel")
})

test_that("pictures", {
  expect_picture(
    "genes, free scale",
    plot_genes(tissue$counts, tissue$coords, genes = c("Slope", "Stripe", "Noise"))
  )
  expect_picture(
    "genes, shared scale, two samples",
    plot_genes(
      tissue$counts,
      tissue$coords,
      genes = c("Slope", "Noise"),
      scale = "shared",
      sample_id = rep(c("a", "b"), each = 32)
    )
  )
  time <- seq(0, 24, length.out = 40)
  expect_picture(
    "genes in time",
    plot_genes(
      rbind(Day = 5 + 4 * sin(time / 12 * pi), Rise = time^2 / 50),
      data.frame(hours = time),
      genes = c("Day", "Rise")
    )
  )
  expect_picture("patterns", plot_patterns(fake_patterns()))
  expect_picture("test", plot_test(fake_test(), n_labels = 0))
  expect_picture("test with models", plot_test(fake_test(), fake_models(), n_labels = 0))
})
