// Touches memory in a function that V8 has made machine code of: 10 pages before that, and 2010 after. Then it prints "ready", and
// ends when its stdin does.
// node --allow-natives-syntax --perf-basic-prof made.js

function touchPages(room, from, pages) {
  for (let page = 0; page < pages; page++) room[(from + page) * 4096] = 1;
}

const room = new Uint8Array(3000 * 4096);
%PrepareFunctionForOptimization(touchPages);
touchPages(room, 0, 10);
%OptimizeFunctionOnNextCall(touchPages);
touchPages(room, 10, 10);
touchPages(room, 20, 2000);
console.log('ready');
process.stdin.on('end', () => process.exit(0)).resume();
