# Pictures: expression in the tissue, the test's volcano, patterns. All are plain ggplot objects.

#' Plot genes in the tissue
#'
#' One panel per gene. Spots are discs as wide as the distance between neighbouring spots, in the
#' units of the coordinates, so that the picture looks like the tissue at any size of the device.
#' One coordinate gives lines along it; of three, `axes` says which two are shown.
#'
#' @param x Expression: a data frame (spots in rows), a matrix, `dgCMatrix` or `DelayedMatrix`
#'   (genes in rows), or a `SummarizedExperiment` and what inherits from it, such as a
#'   `SpatialExperiment`. As for [spatial_test()].
#' @param coords Coordinates, one row per spot, in any unit of length. Not needed for a
#'   `SpatialExperiment`.
#' @param genes Names of genes, or a table of results with a column `gene`, possibly filtered or
#'   sorted: its first `n_genes` are shown.
#' @param ... Passed on to the geom, for instance `alpha`.
#' @param assay Which assay of a `SummarizedExperiment` to show.
#' @param normalization `"none"` shows the values as they are in `x`; `"anscombe"` and `"pearson"`
#'   show the residuals that [spatial_test()] would test.
#' @param covariates,sample_info,sample_id As for [spatial_test()]. With more than one sample, every
#'   sample is a row of panels.
#' @param scale `"free"`: every gene has its own colour scale, from its smallest to its largest
#'   value. `"shared"`: one scale, so that genes can be compared.
#' @param axes Which two of three coordinates to show: numbers or names.
#' @param n_genes How many genes of a table of results to show, at most.
#' @param spot_size Diameter of the discs, in units of the typical (median) distance between
#'   neighbouring spots.
#' @param ncol Number of columns of panels.
#' @return A ggplot object, to which scales, themes and titles can be added. Its data are a tibble
#'   with the columns `spot`, `sample`, `x` and `y` (the coordinates), `gene` and `value`.
#'
#' @section Errors:
#' `patina_error_argument` for an argument that does not make sense; `patina_error_names` for genes
#' that are not in `x`; and those of reading `x` and `coords`.
#'
#' @examples
#' # A ring, a gradient and noise on a small square tissue
#' spots <- expand.grid(x = 1:15, y = 1:15)
#' radius <- sqrt((spots$x - 8)^2 + (spots$y - 8)^2)
#' set.seed(1)
#' counts <- rbind(
#'   Ring = rpois(225, 20 * exp(-(radius - 5)^2)),
#'   Slope = rpois(225, spots$x),
#'   Noise = rpois(225, 5)
#' )
#' plot_genes(counts, spots, genes = c("Ring", "Slope", "Noise"))
#' @export
plot_genes <- function(
  x,
  coords = NULL,
  genes,
  ...,
  assay = "counts",
  normalization = "none",
  covariates = NULL,
  sample_info = NULL,
  sample_id = NULL,
  scale = c("free", "shared"),
  axes = c(1, 2),
  n_genes = 6,
  spot_size = 1,
  ncol = NULL
) {
  scale <- rlang::arg_match(scale)
  if (missing(genes)) {
    abort_patina(
      c(
        "{.arg genes} is missing: which genes are to be shown?",
        i = "Give names, as in {.code plot_genes(x, coords, genes = \"Penk\")}, or a table of results."
      ),
      class = "argument"
    )
  }
  input <- as_input(
    x,
    coords,
    assay = assay,
    sample_info = sample_info,
    sample_id = sample_id,
    call = rlang::current_env()
  )
  index <- find_genes(genes, input$genes, n_genes)
  values <- input_block(input, index)
  if (normalization != "none") {
    normalize <- new_normalizer(
      input,
      normalization,
      covariates,
      rlang::current_env()
    )
    values <- normalize(values, index)
  }

  data <- long_table(
    input$coords,
    values,
    spot = input$spots,
    panel = input$genes[index],
    sample = input$sample_id,
    axes = axes
  )
  names(data)[names(data) == "panel"] <- "gene"
  quantity <- if (normalization == "none") "expression" else "residual"
  tissue_plot(
    data,
    "gene",
    input$coords,
    quantity,
    scale,
    spot_size,
    ncol,
    ...
  ) +
    ggplot2::theme(strip.text = ggplot2::element_text(face = "italic"))
}

#' Plot tissue patterns
#'
#' One panel per pattern, entitled with its number of genes.
#'
#' @param patterns Result of [spatial_patterns()].
#' @inheritParams plot_genes
#' @param scale `"shared"`: one colour scale for all patterns, in standard deviations of a gene.
#'   `"free"`: every pattern from its smallest to its largest value.
#' @return A ggplot object. Its data are a tibble with the columns `spot`, `x` and `y` (the
#'   coordinates), `pattern` (the panel's title) and `value`.
#'
#' @section Errors:
#' `patina_error_argument` if `patterns` is not a result of [spatial_patterns()], or an argument does
#' not make sense.
#'
#' @examples
#' # What spatial_patterns() returns, made by hand
#' spots <- expand.grid(x = 1:12, y = 1:12)
#' patterns <- list(
#'   genes = tibble::tibble(gene = letters[1:5], pattern = c(1, 1, 2, 2, 2), membership = 1),
#'   patterns = tibble::tibble(
#'     spot = rep(paste0("spot", 1:144), 2),
#'     x = rep(spots$x, 2),
#'     y = rep(spots$y, 2),
#'     pattern = rep(1:2, each = 144),
#'     value = c(sin(spots$x / 3), cos(spots$y / 4))
#'   )
#' )
#' plot_patterns(patterns)
#' @export
plot_patterns <- function(
  patterns,
  ...,
  scale = c("shared", "free"),
  axes = c(1, 2),
  spot_size = 1,
  ncol = NULL
) {
  scale <- rlang::arg_match(scale)
  check_patterns(patterns)
  table <- patterns$patterns
  ids <- sort(unique(table$pattern))
  first <- table[table$pattern == ids[[1L]], ]
  coords <- as.matrix(first[setdiff(
    names(table),
    c("spot", "pattern", "value")
  )])

  n_genes <- tabulate(match(patterns$genes$pattern, ids), length(ids))
  titles <- sprintf(
    "Pattern %s (%d %s)",
    ids,
    n_genes,
    ifelse(n_genes == 1L, "gene", "genes")
  )
  values <- vapply(
    ids,
    function(id) {
      one <- table[table$pattern == id, ]
      one$value[match(first$spot, one$spot)]
    },
    numeric(nrow(first))
  )
  data <- long_table(coords, values, first$spot, titles, NULL, axes)
  names(data)[names(data) == "panel"] <- "pattern"
  tissue_plot(data, "pattern", coords, "pattern", scale, spot_size, ncol, ...)
}

#' Plot the test: fraction of spatial variance against p-value
#'
#' Significant genes are on top, the spatial ones on the right. Points are the larger the more
#' certain their fraction of spatial variance. The dashed line is the largest p-value that passes
#' the false discovery rate. The axis is made from `log10_pval`, so p-values far below the smallest
#' double have their place.
#'
#' @param results Result of [spatial_test()], possibly filtered. Genes without a p-value are left
#'   out.
#' @param models Result of [model_search()], to colour hits by the kind of function they follow.
#' @param ... Passed on to the points' geom, for instance `alpha`.
#' @param fdr False discovery rate: genes with `qval` below it are hits.
#' @param n_labels How many hits to label, smallest p-values first. Labels avoid each other if the
#'   package ggrepel is installed; otherwise those that would overlap are left out.
#' @param pseudo_genes Names in `results` that are not genes, such as a technical factor that was
#'   tested beside them: drawn as crosses, always labelled.
#' @return A ggplot object. Its data are `results` without untested genes and with the columns
#'   `neg_log10_pval`, `group` (colour) and `pseudo` added.
#'
#' @section Errors:
#' `patina_error_argument` if `results` or `models` lacks the columns needed, if no gene in `results`
#' has a p-value, or if an argument does not make sense.
#'
#' @examples
#' # What spatial_test() returns, made by hand
#' set.seed(1)
#' results <- tibble::tibble(
#'   gene = paste0("gene", 1:200),
#'   fsv = rbeta(200, 1, 4),
#'   fsv_se = runif(200, 0.05, 0.3),
#'   log10_pval = -30 * fsv^2 * runif(200),
#'   qval = p.adjust(10^log10_pval, "BH")
#' )
#' plot_test(results, n_labels = 5)
#' @export
plot_test <- function(
  results,
  models = NULL,
  ...,
  fdr = 0.05,
  n_labels = 10,
  pseudo_genes = "log_total_count"
) {
  check_columns(results, c("gene", "fsv", "log10_pval", "qval"), "results")
  if (!rlang::is_double(fdr, n = 1L, finite = TRUE) || fdr <= 0 || fdr >= 1) {
    abort_patina(
      "{.arg fdr} must be one number between 0 and 1.",
      class = "argument"
    )
  }
  check_whole_number(n_labels, min = 0)
  data <- tibble::as_tibble(as.data.frame(results))
  data <- data[!is.na(data$log10_pval) & !is.na(data$fsv), ]
  if (nrow(data) == 0L) {
    abort_patina(
      c(
        "{.arg results} has no gene with a p-value: there is nothing to plot.",
        i = "Was it filtered? Column {.field status} says why a gene was not tested."
      ),
      class = "argument"
    )
  }
  if (is.null(data[["fsv_se"]])) {
    data$fsv_se <- NA_real_
  }
  # What is unknown, or wider than half the range of a fraction, is shown as uncertain as can be.
  data$fsv_se <- pmin(data$fsv_se, 0.5)
  data$fsv_se[is.na(data$fsv_se)] <- 0.5
  data$neg_log10_pval <- -data$log10_pval
  data$pseudo <- data$gene %in% pseudo_genes
  hit <- !is.na(data$qval) & data$qval < fdr
  data$group <- test_groups(data, hit & !data$pseudo, models)
  data <- data[order(-as.integer(data$group), data$neg_log10_pval), ]

  points <- data[!data$pseudo, ]
  threshold <- fdr_threshold(data, fdr)
  plot <- ggplot2::ggplot(
    data,
    ggplot2::aes(x = .data$fsv, y = .data$neg_log10_pval)
  ) +
    ggplot2::geom_point(
      ggplot2::aes(colour = .data$group, size = .data$fsv_se),
      data = points,
      stroke = 0,
      ...
    ) +
    ggplot2::scale_colour_manual(
      name = if (is.null(models)) "gene" else "model",
      values = group_colours(data$group),
      labels = group_labels(points$group),
      guide = ggplot2::guide_legend(order = 1, override.aes = list(size = 3))
    ) +
    ggplot2::scale_size_continuous(
      name = "std. error\nof FSV",
      range = c(3.5, 0.6),
      limits = c(0, 0.5),
      breaks = c(0.05, 0.15, 0.3, 0.5),
      labels = c("0.05", "0.15", "0.3", "0.5 or more"),
      guide = ggplot2::guide_legend(
        order = 2,
        override.aes = list(colour = "grey40")
      )
    ) +
    ggplot2::scale_x_continuous(limits = c(0, NA)) +
    ggplot2::scale_y_continuous(
      breaks = function(limits) unique(round(pretty(limits))),
      labels = function(breaks) {
        parse(text = ifelse(breaks == 0, "1", paste0("10^-", breaks)))
      }
    ) +
    ggplot2::labs(x = "fraction of spatial variance (FSV)", y = "p-value") +
    theme_patina()

  if (!is.null(threshold)) {
    plot <- plot +
      ggplot2::geom_hline(
        yintercept = threshold,
        linetype = "dashed",
        colour = "grey40"
      ) +
      ggplot2::annotate(
        "text",
        x = Inf,
        y = threshold,
        label = sprintf("FDR %s%%", format(100 * fdr)),
        hjust = 1.1,
        vjust = 1.5,
        size = 3,
        colour = "grey40"
      )
  }
  if (any(data$pseudo)) {
    plot <- plot +
      ggplot2::geom_point(
        data = data[data$pseudo, ],
        shape = 4,
        size = 3,
        stroke = 1.2
      )
  }
  hits <- data[!is.na(data$qval) & data$qval < fdr & !data$pseudo, ]
  top <- utils::head(hits[order(hits$log10_pval), ], n_labels)
  labelled <- rbind(top, data[data$pseudo, ])
  if (nrow(labelled) > 0L) {
    plot <- plot + label_layer(labelled)
  }
  plot
}

#' Groups that colour the points of plot_test(), as a factor whose first levels are drawn on top
#' @noRd
test_groups <- function(data, hit, models, call = rlang::caller_env()) {
  if (is.null(models)) {
    return(factor(
      ifelse(hit, "significant", "other"),
      c("significant", "other")
    ))
  }
  check_columns(models, c("gene", "model"), "models", call)
  model <- as.character(models$model)[match(data$gene, models$gene)]
  model[is.na(model)] <- "no model"
  known <- c("SE", "PER", "linear")
  levels <- c(
    known,
    sort(setdiff(model[hit], c(known, "no model"))),
    "no model",
    "other"
  )
  factor(ifelse(hit, model, "other"), levels)
}

#' Colours that colour-blind readers can tell apart (Okabe and Ito), hits in colour, others grey
#' @noRd
group_colours <- function(group) {
  colours <- c(
    SE = "#0072B2",
    PER = "#D55E00",
    linear = "#009E73",
    "no model" = "grey30",
    significant = "#0072B2",
    other = "grey75"
  )
  new <- setdiff(levels(group), names(colours))
  c(
    colours,
    stats::setNames(
      rep_len(c("#CC79A7", "#E69F00", "#56B4E9"), length(new)),
      new
    )
  )
}

#' Labels with the number of genes in each group
#' @noRd
group_labels <- function(group) {
  names <- c(
    SE = "SE (general)",
    PER = "PER (periodic)",
    "no model" = "hit without model",
    other = "not significant"
  )
  shown <- levels(group)
  known <- shown %in% names(names)
  text <- ifelse(known, names[shown], shown)
  stats::setNames(paste0(text, ": ", table(group)), shown)
}

#' Height of the line between hits and the rest: halfway between them, NULL if there are no hits
#' @noRd
fdr_threshold <- function(data, fdr) {
  hit <- !is.na(data$qval) & data$qval < fdr
  if (!any(hit)) {
    return(NULL)
  }
  last <- min(data$neg_log10_pval[hit])
  next_one <- data$neg_log10_pval[!hit & data$neg_log10_pval < last]
  if (length(next_one) == 0L) last else (last + max(next_one)) / 2
}

#' Names beside points, none on top of another
#' @noRd
label_layer <- function(data, repel = rlang::is_installed("ggrepel")) {
  mapping <- ggplot2::aes(label = .data$gene)
  if (repel) {
    return(ggrepel::geom_text_repel(
      mapping,
      data = data,
      size = 3,
      fontface = "italic",
      seed = 1,
      max.overlaps = Inf,
      min.segment.length = 0.2,
      segment.colour = "grey60"
    ))
  }
  ggplot2::geom_text(
    mapping,
    data = data,
    size = 3,
    fontface = "italic",
    check_overlap = TRUE,
    vjust = -0.8
  )
}

#' Positions in `known` of the genes to show: names, or the first `n` of a table of results
#' @noRd
find_genes <- function(genes, known, n, call = rlang::caller_env()) {
  from_table <- is.data.frame(genes)
  if (from_table) {
    check_columns(genes, "gene", "genes", call)
    check_whole_number(n, min = 1, arg = "n_genes", call = call)
    genes <- unique(as.character(genes$gene))
    # A tested pseudo-gene is not in `x`; the next gene takes its place.
    absent <- setdiff(utils::head(genes, n), known)
    if (length(absent) > 0L && any(genes %in% known)) {
      inform_patina(
        "Not in {.arg x}, so not shown: {.val {first_few(absent)}}."
      )
      genes <- genes[genes %in% known]
    }
    genes <- utils::head(genes, n)
  }
  if (is.factor(genes)) {
    genes <- as.character(genes)
  }
  if (!is.character(genes) || length(genes) == 0L || anyNA(genes)) {
    abort_patina(
      c(
        "{.arg genes} must be names of genes, or a table of results with at least one row.",
        x = "It is {.obj_type_friendly {genes}} of length {length(genes)}."
      ),
      class = "argument",
      call = call
    )
  }
  genes <- unique(genes)
  absent <- setdiff(genes, known)
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{length(absent)} of {.arg genes} {?is/are} not in {.arg x}: {.val {first_few(absent)}}.",
        i = "Genes of {.arg x} are named like {.val {first_few(known, 3L)}}."
      ),
      class = "names",
      call = call
    )
  }
  match(genes, known)
}

#' One row per spot and panel
#'
#' @param coords n × d matrix.
#' @param values n × panels matrix.
#' @param panel Titles of the panels.
#' @noRd
long_table <- function(
  coords,
  values,
  spot,
  panel,
  sample,
  axes,
  call = rlang::caller_env()
) {
  # Genes may share a name: panels do not.
  panel <- make_unique(panel)
  shown <- shown_axes(coords, axes, call)
  n <- nrow(coords)
  repeated <- rep(seq_len(n), times = ncol(values))
  data <- tibble::tibble(
    spot = spot[repeated],
    sample = if (is.null(sample)) NULL else sample[repeated],
    x = coords[repeated, shown[[1L]]],
    y = if (length(shown) == 2L) coords[repeated, shown[[2L]]] else NULL,
    panel = factor(rep(panel, each = n), panel),
    value = as.double(values)
  )
  data$value[!is.finite(data$value)] <- NA
  attr(data, "axes") <- colnames(coords)[shown]
  data
}

make_unique <- function(x) if (anyDuplicated(x)) make.unique(x, " ") else x

#' Columns of the coordinates to show
#' @noRd
shown_axes <- function(coords, axes, call) {
  if (ncol(coords) == 1L) {
    return(1L)
  }
  shown <- if (is.character(axes)) {
    match(axes, colnames(coords))
  } else {
    match(axes, seq_len(ncol(coords)))
  }
  if (length(shown) != 2L || anyNA(shown) || shown[[1L]] == shown[[2L]]) {
    abort_patina(
      c(
        "{.arg axes} must be two different coordinates, not {.val {axes}}.",
        i = "There are {ncol(coords)}: {.val {colnames(coords)}}."
      ),
      class = "argument",
      call = call
    )
  }
  shown
}

#' Panels of spots in the tissue, or of lines for one coordinate
#' @noRd
tissue_plot <- function(
  data,
  panel,
  coords,
  quantity,
  scale,
  spot_size,
  ncol,
  ...,
  call = rlang::caller_env()
) {
  if (!rlang::is_double(spot_size, n = 1L, finite = TRUE) || spot_size <= 0) {
    abort_patina(
      "{.arg spot_size} must be one number above 0.",
      class = "argument",
      call = call
    )
  }
  axes <- attr(data, "axes")
  by_sample <- "sample" %in% names(data) && length(unique(data$sample)) > 1L
  if (length(axes) == 1L) {
    return(line_plot(data, panel, axes, quantity, scale, by_sample, ncol, ...))
  }

  legend <- ggplot2::waiver()
  free <- scale == "free" && nlevels(data[[panel]]) > 1L
  colour <- "value"
  if (free) {
    data$scaled <- stats::ave(data$value, data[[panel]], FUN = rescale)
    colour <- "scaled"
  }
  samples <- if (by_sample) data$sample[seq_len(nrow(coords))] else NULL
  ggplot2::ggplot(
    data,
    ggplot2::aes(.data$x, .data$y, colour = .data[[colour]])
  ) +
    geom_spot(diameter = spot_size * spot_spacing(coords, samples), ...) +
    ggplot2::coord_fixed() +
    (if (by_sample) {
      ggplot2::facet_grid(
        rows = ggplot2::vars(.data$sample),
        cols = ggplot2::vars(.data[[panel]])
      )
    } else {
      ggplot2::facet_wrap(ggplot2::vars(.data[[panel]]), ncol = ncol)
    }) +
    colour_scale(quantity, free) +
    ggplot2::labs(x = axes[[1L]], y = axes[[2L]]) +
    theme_tissue()
}

colour_scale <- function(quantity, free) {
  if (!free) {
    return(ggplot2::scale_colour_viridis_c(
      name = quantity,
      na.value = "grey80"
    ))
  }
  ggplot2::scale_colour_viridis_c(
    name = paste0(quantity, ",\neach panel"),
    limits = c(0, 1),
    breaks = c(0, 1),
    labels = c("min", "max"),
    na.value = "grey80"
  )
}

line_plot <- function(
  data,
  panel,
  axis,
  quantity,
  scale,
  by_sample,
  ncol,
  ...
) {
  data <- data[order(data$x), ]
  mapping <- if (by_sample) {
    ggplot2::aes(.data$x, .data$value, colour = .data$sample)
  } else {
    ggplot2::aes(.data$x, .data$value)
  }
  plot <- ggplot2::ggplot(data, mapping)
  plot <- if (by_sample) {
    plot +
      ggplot2::geom_line(na.rm = TRUE, ...) +
      ggplot2::geom_point(size = 1, na.rm = TRUE) +
      ggplot2::scale_colour_viridis_d(name = "sample", end = 0.85)
  } else {
    plot +
      ggplot2::geom_line(colour = "#31688E", na.rm = TRUE, ...) +
      ggplot2::geom_point(colour = "#31688E", size = 1, na.rm = TRUE)
  }
  plot +
    ggplot2::facet_wrap(
      ggplot2::vars(.data[[panel]]),
      ncol = ncol,
      scales = if (scale == "free") "free_y" else "fixed"
    ) +
    ggplot2::labs(x = axis, y = quantity) +
    theme_patina()
}

#' To 0..1; a constant is in the middle
#' @noRd
rescale <- function(x) {
  range <- suppressWarnings(range(x, na.rm = TRUE))
  width <- range[[2L]] - range[[1L]]
  if (!is.finite(width)) {
    return(x)
  }
  if (width == 0) 0 * x + 0.5 else (x - range[[1L]]) / width
}

#' Typical distance between neighbouring spots: the median over spots, in the coordinates' units
#'
#' Several hundred spots are enough for a median, and keep the cost linear in the number of spots.
#' Spots in the same place are not neighbours. With several samples, the largest one counts.
#' @noRd
spot_spacing <- function(coords, sample = NULL) {
  if (!is.null(sample)) {
    coords <- coords[
      which(sample == names(which.max(table(sample)))),
      ,
      drop = FALSE
    ]
  }
  coords <- coords[stats::complete.cases(coords), , drop = FALSE]
  n <- nrow(coords)
  probes <- unique(round(seq(1, n, length.out = min(n, 300L))))
  points <- t(coords)
  nearest <- vapply(
    probes,
    function(i) {
      d2 <- colSums((points - points[, i])^2)
      d2 <- d2[d2 > 0]
      if (length(d2) > 0L) sqrt(min(d2)) else NA_real_
    },
    double(1L)
  )
  spacing <- stats::median(nearest, na.rm = TRUE)
  if (is.na(spacing)) 1 else spacing
}

# Points whose size is in the units of the coordinates, unlike geom_point()'s millimetres.
geom_spot <- function(..., diameter) {
  ggplot2::layer(
    geom = GeomSpot,
    stat = "identity",
    position = "identity",
    params = list(diameter = diameter, na.rm = TRUE, ...)
  )
}

GeomSpot <- ggplot2::ggproto(
  # nolint: object_name_linter. ggplot2's convention.
  "GeomSpot",
  ggplot2::Geom,
  required_aes = c("x", "y"),
  default_aes = ggplot2::aes(colour = "grey30", alpha = NA),
  extra_params = c("na.rm", "diameter"),
  draw_key = ggplot2::draw_key_point,

  # As for tiles: the extent makes room for whole discs at the edges, and goes through scales.
  setup_data = function(data, params) {
    radius <- params$diameter / 2
    transform(
      data,
      xmin = x - radius,
      xmax = x + radius,
      ymin = y - radius,
      ymax = y + radius
    )
  },

  draw_panel = function(data, panel_params, coord) {
    place <- coord$transform(data, panel_params)
    # grid takes the smaller of a relative radius's width and height; with equal units on both axes
    # the larger fraction then gives the same disc on both.
    radius <- pmax(abs(place$xmax - place$xmin), abs(place$ymax - place$ymin)) /
      2
    grid::circleGrob(
      place$x,
      place$y,
      r = grid::unit(radius, "npc"),
      gp = grid::gpar(
        fill = ggplot2::alpha(place$colour, place$alpha),
        col = NA
      )
    )
  }
)

theme_patina <- function() {
  ggplot2::theme_bw(base_size = 11) +
    ggplot2::theme(
      panel.grid = ggplot2::element_blank(),
      strip.background = ggplot2::element_blank(),
      strip.text = ggplot2::element_text(size = 10)
    )
}

# The tissue needs no axes: its own shape tells where one is.
theme_tissue <- function() {
  theme_patina() +
    ggplot2::theme(
      panel.border = ggplot2::element_blank(),
      axis.title = ggplot2::element_blank(),
      axis.text = ggplot2::element_blank(),
      axis.ticks = ggplot2::element_blank()
    )
}
