'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const total = Math.max(data.to_ns - data.from_ns, 1);
  const tip = document.getElementById('tip');

  const bytes = n => {
    if (Math.abs(n) < 1024) return n + ' B';
    const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
    let at = -1;
    do { n /= 1024; at++; } while (Math.abs(n) >= 1024 && at < units.length - 1);
    return n.toFixed(1) + ' ' + units[at];
  };
  const seconds = (ns, digits = 6) => '+' + (ns / 1e9).toFixed(digits) + ' s';
  const element = (name, attributes, parent, text) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  const drawn = (name, attributes, parent, text) => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };
  // A title and rows of name and value, beside the pointer.
  const showTip = (event, title, rows) => {
    tip.replaceChildren();
    element('b', {}, tip, title);
    const table = element('table', {}, tip);
    for (const [name, value] of rows) {
      const row = element('tr', {}, table);
      element('td', {}, row, name);
      element('td', {}, row, value);
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const x = event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 12 : event.clientX + 16;
    const y = event.clientY + 16 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 16;
    tip.style.left = Math.max(4, Math.min(x, innerWidth - box.width - 4)) + 'px';
    tip.style.top = Math.max(4, y) + 'px';
  };
  const hideTip = () => { tip.hidden = true; };
  addEventListener('scroll', hideTip, { passive: true });

  // ---- the RSS over time ----

  const timeline = (root, line) => {
    const PAGE = 4096, width = line.width_ns;
    // Steps: from, to, file, shmem, anon, swap, lowest; in bytes.
    const steps = [];
    let last = null, end = 0;
    const step = (from, to, file, anon, shmem, swap, low) => {
      if (to > from) steps.push({ from, to, file: file * PAGE, anon: anon * PAGE, shmem: shmem * PAGE, swap: swap * PAGE, low: low * PAGE, rss: (file + anon + shmem) * PAGE });
    };
    const rest = until => { if (last) step(end, until, ...last, last[0] + last[1] + last[2]); };
    for (const row of line.levels) {
      const [at, file, anon, shmem, swap, low] = row;
      rest(at * width);
      end = Math.min((at + 1) * width, Math.max(total, at * width + 1));
      step(at * width, end, file, anon, shmem, swap, low);
      last = row.length > 6 ? row.slice(6) : [file, anon, shmem, swap];
    }
    rest(total);
    const heap = [];
    line.heap.forEach(([at, most, left, back], index) => {
      const next = index + 1 < line.heap.length ? line.heap[index + 1][0] * width : total;
      heap.push({ from: at * width, to: Math.min((at + 1) * width, total), bytes: most, back });
      heap.push({ from: (at + 1) * width, to: next, bytes: left, back });
    });
    const at = (list, ns) => {
      let low = 0, high = list.length;
      while (low < high) { const mid = (low + high) >> 1; if (list[mid].to <= ns) low = mid + 1; else high = mid; }
      return list[low] && list[low].from <= ns ? list[low] : null;
    };
    const colours = ['--file', '--anon', '--shmem', '--swap', '--heap'];
    const laneColour = title => title.includes('lost') ? 'var(--bad)' : title.includes('GC') || title.includes('heap') ? 'var(--heap)'
      : title.includes('collapse') || title.includes('reclaim') ? 'var(--known)' : title.includes('given') ? 'var(--good)' : 'var(--soft)';

    const buttons = element('div', { class: 'bar-of-buttons' }, root);
    const legend = element('div', { class: 'legend' }, buttons);
    const key = (name, colour, dashed) => {
      const item = element('span', {}, legend);
      const mark = element('i', dashed ? { class: 'dashed' } : {}, item);
      if (dashed) mark.style.borderColor = `var(${colour})`; else mark.style.background = `var(${colour})`;
      item.append(name);
    };
    if (data.has_rss) {
      key('anon', colours[1]); key('shmem', colours[2]); key('file', colours[0]);
      if (steps.some(s => s.swap > 0)) key('swapped out', colours[3], true);
      if (steps.some(s => s.low < s.rss * .95)) key('lowest within a step', '--ink', true);
    }
    if (heap.length) key('page heap in use', colours[4], true);
    const reset = element('button', { type: 'button', disabled: '' }, buttons, 'whole time');
    const place = element('div', {}, root);
    element('p', { class: 'note' }, root, `One step is ${(width / 1e6).toPrecision(3)} ms and shows its highest level. Hover for values, drag to zoom in.`);
    let view = [0, total];

    const draw = () => {
      const all = Math.max(place.clientWidth, 200), left = 62, right = 10, top = 16, high = 250, laneHigh = 29;
      const lanesTop = top + high + 24;
      const wide = all - left - right;
      const svg = drawn('svg', { height: lanesTop + line.lanes.length * laneHigh + 4, role: 'img', 'aria-label': 'RSS over time' });
      const x = ns => left + (ns - view[0]) / (view[1] - view[0]) * wide;
      const seen = list => list.filter(s => s.to >= view[0] && s.from <= view[1]);
      const shown = seen(steps), shownHeap = seen(heap);
      const isLow = s => s.rss - s.low > most / 50;
      const most = Math.max(4096, ...shown.map(s => Math.max(s.rss, s.swap)), ...shownHeap.map(s => s.bytes)) * 1.08;
      const y = value => top + high - value / most * high;

      let grid = 4096;
      while (most / grid > 6) grid *= 2;
      for (let value = 0; value <= most; value += grid) {
        drawn('line', { class: 'grid', x1: left, x2: all - right, y1: y(value), y2: y(value) }, svg);
        drawn('text', { x: left - 6, y: y(value) + 4, 'text-anchor': 'end' }, svg, bytes(value));
      }
      const span = view[1] - view[0];
      let tick = Math.pow(10, Math.floor(Math.log10(span)));
      const wanted = wide / 90;
      for (const part of [0.1, 0.2, 0.5, 1]) if (span / (tick * part) <= wanted) { tick *= part; break; }
      const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(tick) + 1e-9)));
      for (let ns = Math.ceil(view[0] / tick) * tick; ns <= view[1]; ns += tick) {
        drawn('line', { class: 'grid', x1: x(ns), x2: x(ns), y1: top + high, y2: top + high + 4 }, svg);
        if (x(ns) < all - 30) drawn('text', { x: x(ns), y: top + high + 16, 'text-anchor': 'middle' }, svg, (ns / 1e9).toFixed(digits) + ' s');
      }
      const id = 'clip';
      drawn('rect', { x: left, y: 0, width: wide, height: lanesTop + line.lanes.length * laneHigh }, drawn('clipPath', { id }, svg));
      const plot = drawn('g', { 'clip-path': `url(#${id})` }, svg);
      const path = (list, value) => {
        let text = '', open = false, before = null;
        for (const s of list) {
          const v = y(value(s)).toFixed(1), a = x(s.from).toFixed(1), b = x(s.to).toFixed(1);
          text += (!open || before !== a ? 'M' : 'L') + a + ' ' + v + 'L' + b + ' ' + v;
          open = true; before = b;
        }
        return text;
      };
      const area = (low, up, colour) => {
        if (!shown.length) return;
        const there = [], back = [];
        for (const s of shown) {
          const a = x(s.from).toFixed(1), b = x(s.to).toFixed(1);
          there.push(`${a} ${y(up(s)).toFixed(1)}`, `${b} ${y(up(s)).toFixed(1)}`);
          back.push(`${a} ${y(low(s)).toFixed(1)}`, `${b} ${y(low(s)).toFixed(1)}`);
        }
        drawn('path', { class: 'level', d: 'M' + there.join('L') + 'L' + back.reverse().join('L') + 'Z', fill: `var(${colour})` }, plot);
      };
      if (data.has_rss) {
        area(() => 0, s => s.file, colours[0]);
        area(s => s.file, s => s.file + s.shmem, colours[2]);
        area(s => s.file + s.shmem, s => s.rss, colours[1]);
        const lines = [[s => s.low, 'var(--ink)', shown.some(isLow)], [s => s.swap, `var(${colours[3]})`, shown.some(s => s.swap > 0)]];
        for (const [value, colour, there] of lines) {
          if (there) drawn('path', { d: path(shown.filter(s => value(s) === s.swap || isLow(s)), value), fill: 'none', stroke: colour, 'stroke-dasharray': '3 3', 'stroke-opacity': .7 }, plot);
        }
      }
      if (shownHeap.length) drawn('path', { d: path(shownHeap, s => s.bytes), fill: 'none', stroke: `var(${colours[4]})`, 'stroke-width': 1.8, 'stroke-dasharray': '5 3' }, plot);
      const peak = at(steps, data.peak_ns - data.from_ns);
      if (peak && peak.from <= view[1] && peak.to >= view[0]) {
        const px = Math.max(left + 4, Math.min(x(data.peak_ns - data.from_ns), all - right - 4)), py = y(peak.rss);
        drawn('path', { d: `M${px - 4} ${py - 7}h8l-4 6z`, fill: 'var(--ink)' }, svg);
        drawn('text', { class: 'peak', x: px < all / 2 ? px + 7 : px - 7, y: py - 3, 'text-anchor': px < all / 2 ? 'start' : 'end' }, svg, 'peak ' + bytes(peak.rss));
      }
      line.lanes.forEach((lane, row) => {
        const up = lanesTop + row * laneHigh, dense = Math.max(...lane.marks.map(mark => mark[1]));
        drawn('rect', { x: left, y: up + 15, width: wide, height: 8, fill: 'var(--line)', opacity: .35 }, plot);
        for (const [bucket, count] of lane.marks) {
          const a = x(bucket * width), b = x((bucket + 1) * width);
          if (b < left || a > all - right) continue;
          const strong = .35 + .65 * Math.sqrt(count / dense);
          drawn('rect', { class: 'mark', x: a.toFixed(1), y: up + 15, width: Math.max(b - a, 1.6).toFixed(1), height: 8, fill: laneColour(lane.title), opacity: strong.toFixed(2) }, plot);
        }
        const sum = lane.marks.reduce((sum, mark) => sum + mark[1], 0);
        drawn('text', { x: left, y: up + 11 }, svg, `${lane.title}: ${sum}`);
      });

      const cursor = drawn('line', { class: 'cursor', y1: top, y2: lanesTop + line.lanes.length * laneHigh, visibility: 'hidden' }, svg);
      const chosen = drawn('rect', { y: top, height: high, fill: 'var(--ink)', opacity: .12, visibility: 'hidden' }, svg);
      let from = null;
      const when = event => {
        const box = svg.getBoundingClientRect();
        return Math.min(view[1], Math.max(view[0], view[0] + (event.clientX - box.left - left) / wide * (view[1] - view[0])));
      };
      svg.addEventListener('pointermove', event => {
        const ns = when(event), rows = [], here = at(steps, ns), inHeap = at(heap, ns);
        cursor.setAttribute('x1', x(ns)); cursor.setAttribute('x2', x(ns)); cursor.setAttribute('visibility', 'visible');
        if (from !== null) {
          chosen.setAttribute('x', Math.min(x(from), x(ns))); chosen.setAttribute('width', Math.abs(x(ns) - x(from))); chosen.setAttribute('visibility', 'visible');
        }
        if (here && data.has_rss) {
          rows.push(['RSS', bytes(here.rss)], ['anon', bytes(here.anon)], ['file', bytes(here.file)], ['shmem', bytes(here.shmem)]);
          if (here.low < here.rss) rows.push(['lowest', bytes(here.low)]);
          if (here.swap) rows.push(['swapped out', bytes(here.swap)]);
        }
        if (inHeap) rows.push(['page heap in use', bytes(inHeap.bytes)], ['given back, not used', bytes(inHeap.back)]);
        const near = 3 / wide * (view[1] - view[0]);
        for (const lane of line.lanes) {
          let count = 0, size = 0;
          for (const [bucket, times, more] of lane.marks) {
            if (bucket * width <= ns + near && (bucket + 1) * width >= ns - near) { count += times; size += more; }
          }
          if (count) rows.push([lane.title, count + (size ? ', ' + bytes(size) : '')]);
        }
        showTip(event, seconds(ns), rows);
      });
      svg.addEventListener('pointerleave', () => { hideTip(); from = null; cursor.setAttribute('visibility', 'hidden'); chosen.setAttribute('visibility', 'hidden'); });
      svg.addEventListener('pointerdown', event => { if (event.pointerType === 'mouse') { from = when(event); event.preventDefault(); } });
      svg.addEventListener('pointerup', event => {
        const to = when(event);
        if (from !== null && Math.abs(x(to) - x(from)) > 5) { view = [Math.min(from, to), Math.max(from, to)]; reset.disabled = false; hideTip(); draw(); }
        from = null; chosen.setAttribute('visibility', 'hidden');
      });
      place.replaceChildren(svg);
    };
    reset.addEventListener('click', () => { view = [0, total]; reset.disabled = true; draw(); });
    if (!steps.length && !heap.length && !line.lanes.length) { root.replaceChildren(); element('p', { class: 'note' }, root, 'The trace tells of no level.'); return null; }
    draw();
    return draw;
  };

  // ---- flame graphs ----

  const flames = (root, graphs) => {
    // A colour for each program or library, of languages that have them for each package, a shade for each function.
    const ROW = 18, HUES = [28, 208, 158, 268, 340, 48, 186, 14, 300, 232, 92];
    const buttons = element('div', { class: 'bar-of-buttons' }, root);
    const tabs = graphs.map(graph => element('button', { type: 'button', 'aria-pressed': 'false' }, buttons, graph.tab));
    const tools = element('div', { class: 'bar-of-buttons' }, root);
    const search = element('input', { type: 'search', placeholder: 'search functions, files, libraries', 'aria-label': 'search the flame graph' }, tools);
    const reset = element('button', { type: 'button', disabled: '' }, tools, 'zoom out');
    const found = element('small', {}, tools);
    const title = element('p', { class: 'note' }, root);
    const status = element('p', { class: 'note status' }, root);
    const place = element('div', { class: 'flame' }, root);
    let graph = null, nodes = [], focus = null;

    const amount = value => graph.unit === 'bytes' ? bytes(value) : value + (value === 1 ? ' time' : ' times');
    const share = value => (100 * value / graph.total).toFixed(2) + ' %';
    const hash = text => { let h = 2166136261; for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619); return h >>> 0; };
    const family = name => (name.match(/^[<&]*([\w/-]+?)(::|\.)/) || [])[1] || '';
    const colour = frame => frame[0].startsWith('[') ? 'hsl(215 8% var(--flame-light))'
      : `hsl(${HUES[hash(frame[2] + family(frame[0])) % HUES.length]} ${50 + hash(frame[0]) % 34}% calc(var(--flame-light) + ${hash(frame[0]) % 5 - 2}%))`;

    const choose = index => {
      graph = graphs[index];
      tabs.forEach((tab, at) => tab.setAttribute('aria-pressed', String(at === index)));
      nodes = [];
      const ends = [0];
      graph.nodes.forEach(([parent, frame, value], at) => {
        const above = parent ? nodes[parent - 1] : null;
        const start = ends[parent] === undefined ? above.start : ends[parent];
        nodes.push({ at, above, frame: graph.frames[frame], value, start, depth: above ? above.depth + 1 : 0 });
        ends[parent] = start + value;
        ends[at + 1] = start;
      });
      title.textContent = `${graph.title}: ${amount(graph.total)}.${graph.note ? ' ' + graph.note + '.' : ''} Width is ${graph.unit === 'bytes' ? 'memory' : 'number'}; callers stand above what they call. Click to zoom.`;
      focus = null;
      draw();
    };
    const draw = () => {
      const all = Math.max(place.clientWidth, 100), from = focus ? focus.start : 0, whole = focus ? focus.value : graph.total;
      const wanted = search.value.trim().toLowerCase();
      place.replaceChildren();
      reset.disabled = !focus;
      let deepest = 0, hits = 0, hitUntil = -1;
      const list = document.createDocumentFragment();
      for (const node of nodes) {
        const hit = wanted && node.frame.some(text => text.toLowerCase().includes(wanted));
        // A frame within one that was counted is not counted again.
        if (hit && node.start >= hitUntil) { hits += node.value; hitUntil = node.start + node.value; }
        const outer = focus && node.depth < focus.depth && node.start <= from && node.start + node.value >= from + whole;
        const x = outer ? 0 : (node.start - from) / whole * all, wide = outer ? all : node.value / whole * all;
        if (x + wide < 0.5 || x > all - 0.5 || wide < 0.7 || (focus && !outer && node.depth < focus.depth)) continue;
        deepest = Math.max(deepest, node.depth);
        const box = element('div', { class: (wide < 24 ? 'thin ' : '') + (outer ? 'outer ' : '') + (hit ? 'hit' : '') }, list, wide < 24 ? '' : node.frame[0]);
        box.style.left = Math.max(x, 0).toFixed(1) + 'px';
        box.style.top = node.depth * ROW + 'px';
        box.style.width = Math.max(wide - 0.8, 0.7).toFixed(1) + 'px';
        box.style.background = colour(node.frame);
        box.dataset.node = node.at;
      }
      place.style.height = (deepest + 1) * ROW + 'px';
      place.append(list);
      found.textContent = wanted ? `found ${share(hits)}` : '';
    };
    const of = event => { const box = event.target.closest('[data-node]'); return box ? nodes[Number(box.dataset.node)] : null; };
    place.addEventListener('pointermove', event => {
      const node = of(event);
      if (!node) return hideTip();
      const [name, file, image] = node.frame, rows = [['weight', `${amount(node.value)}, ${share(node.value)}`]];
      if (node.above) rows.push(['of its caller', (100 * node.value / node.above.value).toFixed(1) + ' %']);
      const lines = (graph.lines[node.at] || []).map(([line, value]) => line + (value < node.value ? ` (${(100 * value / node.value).toFixed(0)} %)` : '')).join(', ');
      if (file) rows.push(['source', file + (lines ? ':' + lines : '')]);
      if (image) rows.push(['in', image]);
      showTip(event, name, rows);
      status.textContent = `${name}: ${amount(node.value)}, ${share(node.value)}`;
    });
    place.addEventListener('pointerleave', hideTip);
    place.addEventListener('click', event => { const node = of(event); if (node) { focus = node === focus ? null : node; hideTip(); draw(); } });
    reset.addEventListener('click', () => { focus = null; draw(); });
    search.addEventListener('input', draw);
    root.addEventListener('keydown', event => { if (event.key === 'Escape') { focus = null; search.value = ''; draw(); } });
    tabs.forEach((tab, index) => tab.addEventListener('click', () => choose(index)));
    choose(0);
    return draw;
  };

  // ---- addresses over time ----

  const heat = (root, map) => {
    const PAGE = 4096, FIRST = 12;
    const blocks = map.blocks.map(block => {
      const rows = block.rows.map(runs => runs.flatMap(([value, times]) => Array(times).fill(value)));
      let most = 0;
      for (let column = 0; column < map.columns; column++) most = Math.max(most, rows.reduce((sum, row) => sum + row[column], 0));
      return { addr: BigInt(block.addr), label: block.label, rows, most, end: rows.reduce((sum, row) => sum + row[map.columns - 1], 0) };
    });
    element('p', { class: 'note' }, root, `From left to right time, from top to bottom addresses; a row is ${bytes(map.row_pages * PAGE)} of them, the stronger its colour the more of it is resident. Click one to see it nearer.`);
    const list = element('div', {}, root);
    const heaviest = [...blocks].sort((a, b) => b.most - a.most).filter((block, _, [first]) => block.most * 200 >= first.most).slice(0, FIRST);
    const show = which => {
      list.replaceChildren();
      for (const block of which) {
        const part = element('div', { class: 'block' }, list);
        const head = element('p', {}, part);
        element('code', {}, head, '0x' + block.addr.toString(16));
        element('bdi', {}, head, block.label || '[not mapped any more at the end]');
        element('small', {}, head, `most ${bytes(block.most * PAGE)}, at the end ${bytes(block.end * PAGE)}`);
        const canvas = element('canvas', { width: map.columns }, part);
        const [red, green, blue] = getComputedStyle(root).getPropertyValue('--heat').split(',').map(Number);
        const paint = () => {
          const near = part.classList.contains('near'), tall = Math.max(8, Math.min(block.rows.length * (near ? 12 : 3), near ? 900 : 120));
          // Where rows are more than can be drawn, one that is drawn is the mean of its rows.
          const lines = Math.min(block.rows.length, Math.floor(tall));
          canvas.height = lines;
          canvas.style.height = tall + 'px';
          canvas.style.imageRendering = 'pixelated';
          const pen = canvas.getContext('2d'), image = pen.createImageData(map.columns, lines);
          for (let y = 0; y < lines; y++) {
            const rows = block.rows.slice(Math.floor(y * block.rows.length / lines), Math.floor((y + 1) * block.rows.length / lines));
            for (let x = 0; x < map.columns; x++) {
              const full = Math.min(1, rows.reduce((sum, row) => sum + row[x], 0) / rows.length / map.row_pages);
              image.data.set([red, green, blue, full ? 40 + 215 * Math.sqrt(full) : 0], (y * map.columns + x) * 4);
            }
          }
          pen.putImageData(image, 0, 0);
        };
        paint();
        part.addEventListener('click', () => { part.classList.toggle('near'); paint(); });
        canvas.addEventListener('pointermove', event => {
          const box = canvas.getBoundingClientRect();
          const x = Math.min(map.columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * map.columns)));
          const y = Math.min(block.rows.length - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * block.rows.length)));
          const addr = block.addr + BigInt(y) * BigInt(map.row_pages * PAGE), pages = block.rows[y][x];
          showTip(event, '0x' + addr.toString(16), [['at', seconds(Math.min((x + 1) * map.width_ns, total))], ['resident', `${bytes(pages * PAGE)} of ${bytes(map.row_pages * PAGE)}`], ['in', block.label]]);
        });
        canvas.addEventListener('pointerleave', hideTip);
      }
    };
    let which = blocks.filter(block => heaviest.includes(block));
    show(which);
    if (blocks.length > which.length) {
      const more = element('button', { type: 'button' }, root, `show all ${blocks.length}`);
      more.addEventListener('click', () => { which = blocks; show(which); more.remove(); });
    }
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => show(which));
  };

  const redraw = [];
  const part = (id, make) => { const root = document.getElementById(id); if (root) redraw.push(make(root)); };
  part('timeline', root => timeline(root, data.timeline));
  part('flames', root => flames(root, data.flames));
  part('heat', root => heat(root, data.heat));
  let wide = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth === wide) return;
    wide = innerWidth;
    redraw.forEach(draw => draw && draw());
  });
  document.documentElement.dataset.drawn = 'yes';
})();
