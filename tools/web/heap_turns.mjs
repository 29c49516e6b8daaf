// Goes through a flow of a page again and again, and prints the heap after each turn as JSON.
//
//   node heap_turns.mjs FLOW.json
//
// FLOW.json: {"port": 9222, "url": "https://…", "steps": [{"click": "#open"}, {"wait_for": ".list"}, {"back": true}],
//             "turns": 20, "timeout_ms": 30000}
// Prints {"heap_bytes": […], "nodes": […], "listeners": […]}, or {"error": "step 2, click #open: …"}.
//
// Before each measurement the garbage is collected as the developer tools do it, so what is left is held by somebody.
import { readFile } from 'node:fs/promises';
import puppeteer from 'puppeteer-core';

const flow = JSON.parse(await readFile(process.argv[2], 'utf8'));
const browser = await puppeteer.connect({ browserURL: `http://127.0.0.1:${flow.port}` });

const acts = {
  click: async (page, selector) => {
    const found = await page.waitForSelector(selector);
    await found.evaluate((element) => element.click());
    await found.dispose();
  },
  wait_for: async (page, selector) => (await page.waitForSelector(selector)).dispose(),
  open: (page, url) => page.goto(new URL(url, flow.url).href),
  back: (page) => page.goBack(),
  wait_ms: (_page, span) => new Promise((resolve) => setTimeout(resolve, span)),
};

async function walk(page) {
  for (const [number, step] of flow.steps.entries()) {
    const [[act, value]] = Object.entries(step);
    try {
      await acts[act](page, value);
    } catch (error) {
      throw new Error(`step ${number + 1}, ${act} ${value}: ${error.message}`);
    }
  }
}

async function measure(session) {
  // Twice, because what a finalizer lets go of is collected the next time only.
  await session.send('HeapProfiler.collectGarbage');
  await session.send('HeapProfiler.collectGarbage');
  const { usedSize } = await session.send('Runtime.getHeapUsage');
  const { nodes, jsEventListeners } = await session.send('Memory.getDOMCounters');
  return { usedSize, nodes, jsEventListeners };
}

const said = { heap_bytes: [], nodes: [], listeners: [] };
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(flow.timeout_ms);
  const answer = await page.goto(flow.url);
  if (answer === null || answer.status() >= 400) {
    throw new Error(`${flow.url} answers with ${answer === null ? 'nothing' : answer.status()}`);
  }
  const session = await page.createCDPSession();
  await session.send('HeapProfiler.enable');
  for (let turn = 0; turn < flow.turns; turn += 1) {
    await walk(page);
    const { usedSize, nodes, jsEventListeners } = await measure(session);
    said.heap_bytes.push(usedSize);
    said.nodes.push(nodes);
    said.listeners.push(jsEventListeners);
  }
} catch (error) {
  said.error = error.message;
}
await browser.disconnect();
console.log(JSON.stringify(said));
